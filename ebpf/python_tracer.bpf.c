// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Walks the frames of CPython threads. Of each frame it reports which code object it runs, and the
 * offset of its last instruction. The table that turns an offset into a line is too long to be read
 * here, so user space does that afterwards, with bytecode-lines. Its identity.py describes how a
 * code object is identified.
 *
 * User space opens a perf event on each CPU and attaches on_sample to it. It adds the processes to
 * be sampled to the map processes, with the offsets of the structures in their interpreters.
 */
#include "kernel_types.h"
#include "requires.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

REQUIRES_KERNEL("5.8", "ring buffer");

#define FRAMES_PER_PART 32 /* that one program walks, before it tail-calls the next one */
#define MAX_PARTS	32 /* the program itself and 31 tail calls: kernels allow 32 of these */
#define MAX_THREADS	128
#define HASHED_BYTES	64

/* Powers of two: a mask then proves to the verifier that an offset is within a block. */
#define FRAME_BLOCK 128
#define CODE_BLOCK  256

/* Bits of co_flags that CPython changes at run time: CO_ITERABLE_COROUTINE. */
#define IGNORED_FLAGS 0x100

/* Offsets are in bytes. Those in a frame or a code object are less than the size of its block. */
struct python_process {
	__u64 runtime; /* the address of _PyRuntime */
	__u32 interpreters_head;
	__u32 interpreter_next;
	__u32 interpreter_threads;
	__u32 thread_next;
	__u32 thread_native_id;
	__u32 thread_frame;
	/* Up to 3.12, thread_frame points to a _PyCFrame, which points to the frame. */
	__u32 has_cframe;
	__u32 cframe_frame;
	__u32 frame_size; /* how many bytes of a frame are read */
	__u32 frame_code;
	__u32 frame_previous;
	__u32 frame_instruction;
	__u32 frame_owner;
	__u32 foreign_owner; /* frames with this owner or a higher one are of C, without code */
	__u32 code_size;     /* how many bytes of a code object are read */
	__u32 code_first_line;
	__u32 code_arguments;
	__u32 code_keyword_only;
	__u32 code_flags;
	__u32 code_line_table;
	__u32 code_bytecode;
	__u32 bytes_length;
	__u32 bytes_data;
	__u32 unused;
};

struct python_frame {
	__u32 first_line;
	__u32 arguments;
	__u32 keyword_only;
	__u32 flags;
	__u64 hash;
	__s32 offset; /* in bytes; negative in a frame that has not started */
	__u32 unused;
};

enum part_flag {
	PART_LAST = 1,	     /* of its sample */
	PART_UNREADABLE = 2, /* memory can't be read, so outer frames are missing */
	PART_TOO_DEEP = 4,   /* there are too many frames, so outer frames are missing */
};

/* A part of a sample, which user space puts together. The first part has the innermost frames. */
struct stack_part {
	__u64 sample; /* the number of the sample on its CPU */
	__u64 time;   /* nanoseconds of CLOCK_MONOTONIC */
	__u32 cpu;
	__u32 part;
	__u32 tgid;
	__u32 tid;
	__u32 flags;
	__u32 count; /* of frames; the rest of the array is not sent */
	char comm[TASK_COMM_LEN];
	struct python_frame frames[FRAMES_PER_PART];
};

enum python_counter {
	PYTHON_SEEN,	   /* samples of the processes in the map */
	PYTHON_NO_THREAD,  /* the thread is not found among the first MAX_THREADS */
	PYTHON_NO_FRAME,   /* the thread runs no Python code */
	PYTHON_UNREADABLE, /* samples of which a part, or all, could not be read */
	PYTHON_TOO_DEEP,   /* samples without their outermost frames */
	PYTHON_LOST,	   /* samples of which a part, or all, did not fit into the ring buffer */
	PYTHON_COUNTERS,
};

/* The state of one walk, which tail-called programs share. A perf event on a CPU does not interrupt
 * the programs of another one. */
struct walk {
	__u64 samples;
	__u64 frame; /* the next one to read; 0 at the end */
	struct stack_part record;
	/* With space at the end for a field at the largest offset that the mask allows. */
	__u8 frame_block[FRAME_BLOCK + sizeof(__u64)];
	__u8 code_block[CODE_BLOCK + sizeof(__u64)];
	__u32 table_length;
	__u8 table[HASHED_BYTES]; /* must follow its length: both are hashed together */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32); /* tgid */
	__type(value, struct python_process);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} stack_parts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PYTHON_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} python_counters SEC(".maps");

int walk_frames(struct bpf_perf_event_data *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} walkers SEC(".maps") = {
	.values = {[0] = (void *)&walk_frames},
};

static __always_inline void count(__u32 counter)
{
	__u64 *value = bpf_map_lookup_elem(&python_counters, &counter);

	if (value)
		*value += 1;
}

static __always_inline struct walk *this_walk(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&walks, &zero);
}

/*
 * Reads a pointer of the process. It is 0 if the memory can't be read, as the helper then zeroes
 * the value. Checking what the helper returns would double the paths that the verifier has to
 * follow.
 */
static __always_inline __u64 pointer_at(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (const void *)address);
	return value;
}

static __always_inline __u64 pointer_in(const __u8 *block, __u64 offset)
{
	return *(const __u64 *)(block + offset);
}

static __always_inline __u32 number_in(const __u8 *block, __u64 offset)
{
	return *(const __u32 *)(block + offset);
}

/* Sends the frames that were walked since the last part. Returns whether they fitted. */
static __always_inline int send(struct walk *walk)
{
	__u64 frames = walk->record.count;

	if (frames > FRAMES_PER_PART)
		return 0;
	if (bpf_ringbuf_output(&stack_parts, &walk->record,
			       offsetof(struct stack_part, frames) +
				       frames * sizeof(struct python_frame),
			       0)) {
		count(PYTHON_LOST);
		return 0;
	}
	walk->record.part++;
	walk->record.count = 0;
	return 1;
}

/* Returns the address of a thread's PyThreadState, or 0. */
static __always_inline __u64 find_thread(const struct python_process *process, __u32 tid)
{
	__u64 interpreter = pointer_at(process->runtime + process->interpreters_head);
	__u64 thread = pointer_at(interpreter + process->interpreter_threads);

	for (int i = 0; i < MAX_THREADS; i++) {
		if (thread) {
			if (pointer_at(thread + process->thread_native_id) == tid)
				return thread;
			thread = pointer_at(thread + process->thread_next);
		} else {
			interpreter = pointer_at(interpreter + process->interpreter_next);
			if (!interpreter)
				return 0;
			thread = pointer_at(interpreter + process->interpreter_threads);
		}
	}
	return 0;
}

static __always_inline __u64 hash_of(const struct walk *walk)
{
	const __u8 *bytes = (const __u8 *)&walk->table_length;
	__u64 hash = 0xcbf29ce484222325; /* FNV-1a of 64 bits */

	_Static_assert(offsetof(struct walk, table) == offsetof(struct walk, table_length) + 4,
		       "the length and the bytes are hashed together");
#pragma unroll /* this halves the instructions that the verifier has to follow */
	for (int i = 0; i < 4 + HASHED_BYTES; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3;
	return hash;
}

/* Reads what identifies a code object. Returns 0, or -1 if it can't be read. */
static __always_inline long identify(struct walk *walk, const struct python_process *process,
				     __u64 code, struct python_frame *frame)
{
	const __u8 *block = walk->code_block;
	__u64 table, length = 0;

	if (bpf_probe_read_user(walk->code_block, process->code_size & (CODE_BLOCK - 1),
				(const void *)code))
		return -1;
	table = pointer_in(block, process->code_line_table & (CODE_BLOCK - 1));
	if (bpf_probe_read_user(&length, sizeof(length),
				(const void *)(table + process->bytes_length)))
		return -1;
	walk->table_length = length;
	__builtin_memset(walk->table, 0, sizeof(walk->table));
	if (length > HASHED_BYTES)
		length = HASHED_BYTES;
	if (bpf_probe_read_user(walk->table, length, (const void *)(table + process->bytes_data)))
		return -1;
	frame->first_line = number_in(block, process->code_first_line & (CODE_BLOCK - 1));
	frame->arguments = number_in(block, process->code_arguments & (CODE_BLOCK - 1));
	frame->keyword_only = number_in(block, process->code_keyword_only & (CODE_BLOCK - 1));
	frame->flags = number_in(block, process->code_flags & (CODE_BLOCK - 1)) & ~IGNORED_FLAGS;
	frame->hash = hash_of(walk);
	return 0;
}

/* Adds the frame at walk->frame to the record, and sets walk->frame to the previous one. Returns 0,
 * or -1 if it can't be read. */
static __always_inline long add_frame(struct walk *walk, const struct python_process *process)
{
	__u64 index = walk->record.count & (FRAMES_PER_PART - 1);
	struct python_frame *frame = &walk->record.frames[index];
	const __u8 *block = walk->frame_block;
	__u64 code, instruction;

	if (bpf_probe_read_user(walk->frame_block, process->frame_size & (FRAME_BLOCK - 1),
				(const void *)walk->frame))
		return -1;
	walk->frame = pointer_in(block, process->frame_previous & (FRAME_BLOCK - 1));
	if (block[process->frame_owner & (FRAME_BLOCK - 1)] >= process->foreign_owner)
		return 0;
	code = pointer_in(block, process->frame_code & (FRAME_BLOCK - 1));
	instruction = pointer_in(block, process->frame_instruction & (FRAME_BLOCK - 1));
	if (identify(walk, process, code, frame))
		return -1;
	frame->offset = instruction - (code + process->code_bytecode);
	frame->unused = 0;
	walk->record.count++;
	return 0;
}

SEC("perf_event")
int walk_frames(struct bpf_perf_event_data *ctx)
{
	struct python_process *process;
	struct walk *walk = this_walk();
	__u32 tgid;

	if (!walk)
		return 0;
	tgid = walk->record.tgid;
	process = bpf_map_lookup_elem(&processes, &tgid);
	if (!process)
		return 0;
	for (int i = 0; i < FRAMES_PER_PART; i++) {
		if (!walk->frame)
			break;
		if (add_frame(walk, process)) {
			walk->record.flags |= PART_UNREADABLE;
			count(PYTHON_UNREADABLE);
			walk->frame = 0;
			break;
		}
	}
	if (walk->frame && walk->record.part + 1 >= MAX_PARTS) {
		walk->record.flags |= PART_TOO_DEEP;
		count(PYTHON_TOO_DEEP);
		walk->frame = 0;
	}
	if (!walk->frame)
		walk->record.flags |= PART_LAST;
	if (send(walk) && walk->frame)
		bpf_tail_call(ctx, &walkers, 0);
	return 0;
}

SEC("perf_event")
int on_sample(struct bpf_perf_event_data *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tgid = id >> 32, tid = id;
	struct python_process *process = bpf_map_lookup_elem(&processes, &tgid);
	struct walk *walk = this_walk();
	__u64 thread, frame;

	if (!process || !walk)
		return 0;
	count(PYTHON_SEEN);
	thread = find_thread(process, tid);
	if (!thread) {
		count(PYTHON_NO_THREAD);
		return 0;
	}
	frame = pointer_at(thread + process->thread_frame);
	if (frame && process->has_cframe)
		frame = pointer_at(frame + process->cframe_frame);
	if (!frame) {
		count(PYTHON_NO_FRAME);
		return 0;
	}
	walk->frame = frame;
	walk->record.sample = walk->samples++;
	walk->record.time = bpf_ktime_get_ns();
	walk->record.cpu = bpf_get_smp_processor_id();
	walk->record.part = 0;
	walk->record.tgid = tgid;
	walk->record.tid = tid;
	walk->record.flags = 0;
	walk->record.count = 0;
	bpf_get_current_comm(walk->record.comm, sizeof(walk->record.comm));
	bpf_tail_call(ctx, &walkers, 0);
	return 0;
}
