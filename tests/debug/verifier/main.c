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

static int load(const char *name)
{
	struct bpf_prog_aux *aux = allocate(sizeof(*aux));
	struct bpf_prog *prog = allocate(sizeof(*prog));
	union bpf_attr attr = {{1}};

	aux->name[0] = attr.prog_name[0] = *name;
	prog->len = 2;
	prog->insnsi[0].code = 0x18; /* takes two places */
	prog->aux = aux;
	called = begun = 0;
	return bpf_check(&prog, &attr);
}

int main(void)
{
	int err = load(""); /* as a library probes */

	return err ? err : load("n");
}
