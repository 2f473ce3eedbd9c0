#include "bpf.h"

volatile int called, begun;

void *allocate(unsigned long size)
{
	static char memory[4096];
	static unsigned long used;

	used += size;
	return memory + used - size;
}

int visit(int insn)
{
	return insn;
}

void log_error(const char *text)
{
	called = -1;
}

int main(void)
{
	struct bpf_prog_aux aux = { "" };
	struct bpf_prog prog = { 2, &aux }, *loaded = &prog;
	union bpf_attr attr = { { 1 } };
	int err = bpf_check(&loaded, &attr); /* as a library probes */

	called = begun = 0;
	aux.name[0] = attr.prog_name[0] = 'n';
	return err + bpf_check(&loaded, &attr);
}
