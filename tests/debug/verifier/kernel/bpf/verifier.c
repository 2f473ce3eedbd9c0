/*
 * The verifier's outline, in the form that a macro chooses:
 *
 * INLINED  do_check is inlined into its caller, as gcc does
 * TWICE    it is inlined at two calls
 * OWN      it is a function of its own
 * PART     its beginning is inlined, and the rest of it is a function, do_check.part.0
 */
#include "../../bpf.h"

#ifdef OWN
#define DO_CHECK static noinline
#elif defined(PART)
#define DO_CHECK static
#else
#define DO_CHECK inlined
#endif

/* The first thing in do_check is another function that is inlined, as in 5.4. */
inlined int *kzalloc(unsigned long size)
{
	int *memory = allocate(size);

	if (memory)
		*memory = 0;
	return memory;
}

DO_CHECK int do_check(struct bpf_verifier_env *env)
{
	int *state;
	int i;

#ifdef PART
	if (!env->prog->len)
		return 0;
#endif
	state = kzalloc(16);
	if (__builtin_expect(!state, 0)) {
		log_error("no memory");
		return -12;
	}
	begun = 1;
	env->state = state;
	for (i = 0; i < env->prog->len; i++) {
		env->insn_idx = i;
		if (visit(i) < 0)
			return -1;
	}
	return 0;
}

int bpf_check(struct bpf_prog **prog, union bpf_attr *attr)
{
	struct bpf_verifier_env *env;
	int err;

	env = allocate(sizeof(*env));
	if (__builtin_expect(!env, 0))
		return -12;
	env->prog = *prog;
	err = visit(attr->insn_cnt);
	if (err < 0)
		goto out;
	called = 1;
	err = do_check(env);
#ifdef TWICE
	called = 2;
	begun = 0;
	if (!err)
		err = do_check(env);
#endif
out:
	visit(err);
	return err;
}

#ifdef PART
int check_again(struct bpf_verifier_env *env)
{
	return visit(0) ? do_check(env) : 0;
}
#endif
