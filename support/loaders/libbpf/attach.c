// SPDX-License-Identifier: Apache-2.0
#include "loader.h"
json_t *attach_program(struct session *session, int program)
{
	(void)session; (void)program;
	return json_pack("{s:b}", "loaded", 1);
}
