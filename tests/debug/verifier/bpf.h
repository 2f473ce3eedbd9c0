/* What gdb reads of the verifier, in programs that run without a kernel. */

#define noinline __attribute__((noinline))
#define inlined	 static inline __attribute__((always_inline))

union bpf_attr { /* as in include/uapi/linux/bpf.h, up to prog_name */
	struct {
		unsigned int prog_type, insn_cnt;
		unsigned long insns, license;
		unsigned int log_level, log_size;
		unsigned long log_buf;
		unsigned int kern_version, prog_flags;
		char prog_name[16];
	};
};

struct bpf_prog_aux {
	char name[16];
};

struct bpf_insn {
	unsigned char code, registers;
	short off;
	int imm;
};

struct bpf_prog {
	int len;
	struct bpf_prog_aux *aux;
	struct bpf_insn insnsi[2];
};

struct bpf_verifier_env {
	struct bpf_prog *prog;
	int insn_idx;
	int *state;
};

/* What the program has done so far. */
extern volatile int called, begun;

int bpf_check(struct bpf_prog **prog, union bpf_attr *attr);
void *allocate(unsigned long size);
int visit(int insn);
__attribute__((cold)) void log_error(const char *text);
