// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

/*
 * Walks the frames of CPython threads, and sends three kinds of records to user space:
 *
 * - a code object, once: a number, and what is needed to find its lines and names
 * - a part of a stack, once: some frames that follow each other, each with the number of its code
 *   object and the offset of its last instruction
 * - a sample: the parts of a thread's stack, by their hashes
 *
 * So a sample of 2,000 frames has some 600 bytes, and a sample of a stack that was seen before
 * sends nothing else. Between two samples of a deep stack, only inner frames change. Parts must
 * therefore begin and end at the same outer frames in both, though the walk begins at the inner
 * end: the address of a frame decides whether a part ends with it.
 *
 * The walk is a global function, which the verifier checks once, whatever the number of its calls.
 * Tail calls would do, too, but only 33 of them, and on few architectures in programs with
 * functions.
 *
 * User space opens a perf event on each CPU and attaches on_sample to it. It adds the processes to
 * be sampled to the map processes, with the offsets of the structures in their interpreters.
 */
#include "kernel_types.h"
#include "requires.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

REQUIRES_KERNEL("5.8", "ring buffer");

#define ROUND_FRAMES	       64	/* that one call of walk_round walks */
#define MAX_ROUNDS	       128	/* so 8,192 frames in all */
#define FRAMES_PER_PART	       64	/* at most */
#define MAX_PARTS	       512	/* of a sample */
#define THREADS_PER_SAMPLE     256	/* that one sample looks at to find its thread */
#define MAX_SAMPLES_PER_SEARCH 64	/* then the search begins again */
#define CACHED_CODES	       256	/* for the time of one sample */
#define FOREIGN		       ~0U	/* in place of the number of a code object: a frame of C */
#define MAX_CODE_NUMBER	       0xfffffU /* of one CPU */

/* Powers of two: a mask then proves to the verifier that an offset is within a block. */
#define FRAME_BLOCK 128
#define CODE_BLOCK  256
#define TEXT_BLOCK  256
#define TABLE_BLOCK 4096

/* From 3.14 on, the lowest bits of a reference in a frame say who owns the object. */
#define POINTER_TAG 3ULL

/* The highest byte of an address of user space is 0, and may be missing in what was read. */
#define ADDRESS_BITS 0x00ffffffffffffffULL

/* Offsets are in bytes. Those in a frame or a code object are less than the size of its block. */
struct python_process {
	__u64 runtime; /* the address of _PyRuntime */
	__u32 interpreters_head;
	__u32 interpreter_next;
	__u32 interpreter_threads;
	__u32 thread_next;
	__u32 thread_native_id;
	/* Up to 3.10, thread_native_id is that of the pthread_t, the address of a structure of the
	 * C library, in which the id is at this offset. From 3.11 on, this is 0. */
	__u32 pthread_id;
	__u32 thread_frame;
	/* Up to 3.12, thread_frame points to a _PyCFrame, which points to the frame. */
	__u32 has_cframe;
	__u32 cframe_frame;
	__u32 frame_start; /* the first byte of a frame that is read */
	__u32 frame_size; /* how many are read; the address of an instruction may lack its last byte
			   */
	__u32 frame_code;
	__u32 frame_previous;
	__u32 frame_instruction;
	/* Up to 3.10, the frame has the number of the instruction, which counts units of so many
	 * bytes. From 3.11 on, it has the address of the instruction, and this is 0. */
	__u32 instruction_unit;
	__u32 frame_owner;
	__u32 foreign_owner; /* frames with this owner or a higher one are of C, without code */
	__u32 code_size;     /* how many bytes of a code object are read */
	__u32 code_first_line;
	__u32 code_arguments;
	__u32 code_keyword_only;
	__u32 code_flags;
	__u32 code_file;
	__u32 code_name; /* from 3.11 on, the qualified one */
	__u32 code_line_table;
	__u32 code_bytecode;
	__u32 bytes_length;
	__u32 bytes_data;
	__u32 text_length; /* of a str: how many characters it has */
	__u32 text_state;
	__u32 text_ascii; /* the characters of an ASCII str */
	__u32 text_data;  /* those of another one */
};

enum record_kind { RECORD_CODE, RECORD_PART, RECORD_SAMPLE, RECORD_PROCESS };

/* A str, as far as it could be read. */
struct python_text {
	__u64 object;
	__u32 length; /* in characters */
	__u32 state;
	__u32 size; /* of the bytes that are valid */
	__u32 unused;
	__u8 bytes[TEXT_BLOCK];
};

struct code_record {
	__u32 kind;
	__u32 number;
	__u32 tgid;
	__u32 first_line;
	__u32 arguments;
	__u32 keyword_only;
	__u32 flags;
	__u32 table_size; /* of the bytes at the end of this, which are all that is sent */
	__u64 table;	  /* the address of the bytes object */
	__u64 table_length;
	struct python_text file;
	struct python_text name;
	__u8 table_bytes[TABLE_BLOCK];
};

struct python_frame {
	__u32 code;   /* its number */
	__s32 offset; /* in bytes; negative in a frame that has not started */
};

/* The frames of a part, the innermost first. */
struct part_record {
	__u32 kind;
	__u32 count; /* of frames; the rest of the array is not sent */
	__u64 hash;
	struct python_frame frames[FRAMES_PER_PART];
};

enum sample_flag {
	SAMPLE_UNREADABLE = 1, /* memory can't be read, so outer frames are missing */
	SAMPLE_TOO_DEEP = 2,   /* there are too many frames, so outer frames are missing */
};

struct sample_record {
	__u32 kind;
	__u32 count; /* of parts; the rest of the array is not sent */
	__u64 time;  /* nanoseconds of CLOCK_MONOTONIC */
	__u32 cpu;
	__u32 tgid;
	__u32 tid;
	__u32 flags;
	char comm[TASK_COMM_LEN];
	__u64 parts[MAX_PARTS]; /* their hashes, the innermost first */
};

enum process_event { PROCESS_FORKED = 1, PROCESS_EXECUTED, PROCESS_EXITED };

/* What happened to a process that a sampled one has started, directly or not. */
struct process_record {
	__u32 kind;
	__u32 event;
	__u32 tgid;
	__u32 parent;  /* its tgid; only for PROCESS_FORKED */
	__u32 sampled; /* of PROCESS_FORKED: whether it is sampled from now on */
	__u32 unused;
	char comm[TASK_COMM_LEN]; /* for PROCESS_EXECUTED, that of the program */
};

enum python_counter {
	PYTHON_SEEN,	   /* samples of the processes in the map */
	PYTHON_NO_THREAD,  /* the interpreter does not know the thread */
	PYTHON_NO_FRAME,   /* the thread runs no Python code */
	PYTHON_UNREADABLE, /* samples of which a part, or all, could not be read */
	PYTHON_TOO_DEEP,   /* samples without their outermost frames */
	PYTHON_LOST,	   /* samples of which a part, or all, did not fit into the ring buffer */
	PYTHON_NOT_FOUND,  /* the thread was not found yet: the next sample looks further */
	PYTHON_COUNTERS,
};

/* A code object that user space knows. Its memory may be used for another one later: then the other
 * fields differ. */
struct known_code {
	__u64 table;
	__u64 name;
	__u32 first_line;
	__u32 number;
};

struct code_key {
	__u64 code;
	__u32 tgid;
	__u32 unused;
};

/* The address of a thread's PyThreadState. Until it is found, where to go on looking for it. */
struct known_thread {
	__u64 thread;
	__u64 next_thread;
	__u64 next_interpreter;
	__u64 samples; /* that have looked for it */
};

/* Samples that were lost, by their innermost frame. The code is 0 if its record was lost, too. */
struct lost_key {
	__u32 tgid;
	__u32 code;
	__s32 offset;
};

struct cached_code {
	__u64 code;
	__u32 number;
	__u32 sample; /* for which it was looked up */
};

/* The state of one walk. A perf event on a CPU does not interrupt the programs of another one. */
struct walk {
	__u64 frame; /* the next one to read; 0 at the end */
	__u64 hash;  /* of the frames in the part */
	__u32 samples;
	__u32 codes;
	__u32 lost;
	__u32 unused;
	struct lost_key innermost;
	__u32 padding;
	struct sample_record sample;
	struct part_record part;
	/* With space at the end for what begins at the largest offset that the mask allows. */
	__u8 frame_block[2 * FRAME_BLOCK];
	__u8 code_block[CODE_BLOCK + sizeof(__u64)];
	struct cached_code cache[CACHED_CODES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* tgid */
	__type(value, struct python_process);
} processes SEC(".maps");

/* The processes whose children are followed, be they of Python or not. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* tgid */
	__type(value, __u8);
} followed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

/* For the record that is being made: it is too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct code_record);
} code_records SEC(".maps");

/* What these three maps forget, is found, or sent, again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* tid */
	__type(value, struct known_thread);
} known_threads SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct code_key);
	__type(value, struct known_code);
} known_codes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, __u64); /* the hash */
	__type(value, __u8);
} known_parts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, struct lost_key);
	__type(value, __u64);
} lost_samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PYTHON_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} python_counters SEC(".maps");

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

/* These masks keep an offset within its block and, for processors that need it, aligned. */
static __always_inline __u64 frame_pointer(const struct walk *walk, __u64 offset)
{
	return pointer_in(walk->frame_block, offset & (FRAME_BLOCK - sizeof(__u64)));
}

static __always_inline __u64 code_pointer(const struct walk *walk, __u64 offset)
{
	return pointer_in(walk->code_block, offset & (CODE_BLOCK - sizeof(__u64)));
}

static __always_inline __u32 code_number(const struct walk *walk, __u64 offset)
{
	return number_in(walk->code_block, offset & (CODE_BLOCK - sizeof(__u32)));
}

/* Returns the id of the thread that a PyThreadState belongs to. */
static __always_inline __u32 thread_id(const struct python_process *process, __u64 thread)
{
	__u64 id = pointer_at(thread + process->thread_native_id);

	return process->pthread_id ? pointer_at(id + process->pthread_id) : id;
}

/*
 * Returns the address of a thread's PyThreadState, or 0. The list of them begins with the newest,
 * and may be longer than one sample can afford to walk. So the next sample of the thread goes on
 * where this one stops, and what is found is kept. An address that is kept may be that of freed
 * memory by then: what is there must have the id of the thread.
 */
__noinline __u64 find_thread(__u32 tgid, __u32 tid)
{
	struct python_process *process = bpf_map_lookup_elem(&processes, &tgid);
	struct known_thread *known = bpf_map_lookup_elem(&known_threads, &tid);
	struct known_thread found = {};
	__u64 interpreter = 0, thread = 0;

	if (!process)
		return 0;
	if (known) {
		if (known->thread && thread_id(process, known->thread) == tid)
			return known->thread;
		/* The next thread may have ended, and its memory may be anything now. */
		if (known->samples < MAX_SAMPLES_PER_SEARCH) {
			interpreter = known->next_interpreter;
			thread = known->next_thread;
		}
	}
	if (!interpreter) {
		interpreter = pointer_at(process->runtime + process->interpreters_head);
		thread = pointer_at(interpreter + process->interpreter_threads);
	}
	for (int i = 0; i < THREADS_PER_SAMPLE; i++) {
		if (thread) {
			if (thread_id(process, thread) == tid) {
				found.thread = thread;
				bpf_map_update_elem(&known_threads, &tid, &found, BPF_ANY);
				return thread;
			}
			thread = pointer_at(thread + process->thread_next);
		} else {
			interpreter = pointer_at(interpreter + process->interpreter_next);
			if (!interpreter)
				break;
			thread = pointer_at(interpreter + process->interpreter_threads);
		}
	}
	found.next_thread = thread;
	found.next_interpreter = interpreter;
	/* Looked up again: the verifier has fewer states to follow if the loop above does not keep
	 * it. */
	known = bpf_map_lookup_elem(&known_threads, &tid);
	if (known && interpreter && known->samples < MAX_SAMPLES_PER_SEARCH)
		found.samples = known->samples + 1;
	bpf_map_update_elem(&known_threads, &tid, &found, BPF_ANY);
	count(interpreter ? PYTHON_NOT_FOUND : PYTHON_NO_THREAD);
	return 0;
}

static __always_inline void read_text(struct python_text *text, __u64 object,
				      const struct python_process *process)
{
	__u32 state = 0;
	__u64 length = pointer_at(object + process->text_length), kind, size, data;

	bpf_probe_read_user(&state, sizeof(state), (const void *)(object + process->text_state));
	/* The bits are 2 for interned, 3 for the kind, which is the size of a character and never
	 * 0, and the flags compact and ascii. In some releases of 3.14, interned has 16 bits. */
	kind = state >> 2 & 31;
	if (!(kind & 7))
		kind = state >> 16 & 31;
	data = kind & 16 ? process->text_ascii : process->text_data;
	size = TEXT_BLOCK - 1;
	if (length < TEXT_BLOCK && length * (kind & 7) < TEXT_BLOCK)
		size = length * (kind & 7);
	text->object = object;
	text->length = length < ~0U ? length : ~0U;
	text->state = state;
	text->size = 0;
	text->unused = 0;
	if (!bpf_probe_read_user(text->bytes, size & (TEXT_BLOCK - 1),
				 (const void *)(object + data)))
		text->size = size;
}

/* Makes the record of the code object in walk->code_block. Returns its number, or 0 if it is lost.
 */
static __always_inline __u32 send_code(struct walk *walk, const struct python_process *process,
				       const struct code_key *key)
{
	struct known_code known = {};
	struct code_record *record;
	__u64 length, size = TABLE_BLOCK - 1;
	__u32 zero = 0;

	record = bpf_map_lookup_elem(&code_records, &zero);
	if (!record)
		return 0;
	known.table = code_pointer(walk, process->code_line_table);
	known.name = code_pointer(walk, process->code_name);
	known.first_line = code_number(walk, process->code_first_line);
	known.number = walk->sample.cpu << 20 | (++walk->codes & MAX_CODE_NUMBER);
	record->kind = RECORD_CODE;
	record->number = known.number;
	record->tgid = key->tgid;
	record->first_line = known.first_line;
	record->arguments = code_number(walk, process->code_arguments);
	record->keyword_only = code_number(walk, process->code_keyword_only);
	record->flags = code_number(walk, process->code_flags);
	record->table = known.table;
	length = pointer_at(known.table + process->bytes_length);
	record->table_length = length;
	read_text(&record->file, code_pointer(walk, process->code_file), process);
	read_text(&record->name, known.name, process);
	if (length < TABLE_BLOCK)
		size = length;
	size &= TABLE_BLOCK - 1;
	if (bpf_probe_read_user(record->table_bytes, size,
				(const void *)(known.table + process->bytes_data)))
		size = 0;
	record->table_size = size;
	if (bpf_ringbuf_output(&records, record, offsetof(struct code_record, table_bytes) + size,
			       0)) {
		walk->lost = 1;
		return 0;
	}
	bpf_map_update_elem(&known_codes, key, &known, BPF_ANY);
	return known.number;
}

/* Returns the number of a code object that a frame runs, 0 if it can't be read, or FOREIGN. */
__noinline __u32 find_code(__u64 code, __u64 frame)
{
	struct walk *walk = this_walk();
	struct python_process *process;
	struct known_code *known;
	struct code_key key = {.code = code};
	__u8 owner = 0;

	if (!walk)
		return 0;
	key.tgid = walk->sample.tgid;
	process = bpf_map_lookup_elem(&processes, &key.tgid);
	if (!process)
		return 0;
	bpf_probe_read_user(&owner, sizeof(owner), (const void *)(frame + process->frame_owner));
	if (owner >= process->foreign_owner)
		return FOREIGN;
	if (bpf_probe_read_user(walk->code_block, process->code_size & (CODE_BLOCK - 1),
				(const void *)code))
		return 0;
	known = bpf_map_lookup_elem(&known_codes, &key);
	if (known && known->table == code_pointer(walk, process->code_line_table) &&
	    known->name == code_pointer(walk, process->code_name) &&
	    known->first_line == code_number(walk, process->code_first_line))
		return known->number;
	return send_code(walk, process, &key);
}

/* Ends a part: adds its hash to the sample, and sends its frames if user space does not know them.
 */
__noinline int end_part(void)
{
	struct walk *walk = this_walk();
	__u64 hash, frames, size;
	__u8 one = 1;
	__u32 number;

	if (!walk)
		return 0;
	frames = walk->part.count;
	number = walk->sample.count;
	hash = walk->hash;
	walk->part.count = 0;
	walk->hash = 0;
	if (frames > FRAMES_PER_PART)
		return 0;
	if (number >= MAX_PARTS) {
		walk->sample.flags |= SAMPLE_TOO_DEEP;
		walk->frame = 0;
		return 0;
	}
	if (!bpf_map_lookup_elem(&known_parts, &hash)) {
		walk->part.kind = RECORD_PART;
		walk->part.count = frames;
		walk->part.hash = hash;
		size = offsetof(struct part_record, frames) + frames * sizeof(struct python_frame);
		if (bpf_ringbuf_output(&records, &walk->part, size, 0))
			walk->lost = 1;
		else
			bpf_map_update_elem(&known_parts, &hash, &one, BPF_ANY);
		walk->part.count = 0;
	}
	walk->sample.parts[number & (MAX_PARTS - 1)] = hash;
	walk->sample.count = number + 1;
	return 0;
}

/* Fibonacci hashing. */
static __always_inline __u32 spread(__u64 address)
{
	return (__u32)(address >> 3) * 2654435769U;
}

/* Adds a frame to the part. */
static __always_inline void add_frame(struct walk *walk, const struct python_process *process,
				      __u32 number, __u64 code)
{
	__u64 instruction = frame_pointer(walk, process->frame_instruction), hash = walk->hash;
	struct python_frame *frame = &walk->part.frames[walk->part.count & (FRAMES_PER_PART - 1)];
	__s32 offset;

	if (process->instruction_unit)
		offset = (__s32)instruction * (__s32)process->instruction_unit;
	else
		offset = (instruction & ADDRESS_BITS) - (code + process->code_bytecode);
	frame->code = number;
	frame->offset = offset;
	if (!walk->innermost.code) {
		walk->innermost.code = number;
		walk->innermost.offset = offset;
	}
	hash = (hash ^ ((__u64)number << 32 | (__u32)offset)) * 0x9e3779b97f4a7c15;
	walk->hash = (hash ^ hash >> 29) + 1;
	walk->part.count++;
}

/* Ends the walk at a frame that can't be read, or whose code object can't be sent. */
static __always_inline int stop(struct walk *walk)
{
	if (!walk->lost)
		walk->sample.flags |= SAMPLE_UNREADABLE;
	walk->frame = 0;
	return 0;
}

/* Walks the next frames. Returns whether there are more. */
__noinline int walk_round(void)
{
	struct python_process *process;
	struct walk *walk = this_walk();
	struct cached_code *cached;
	__u64 address, code;
	__u32 tgid, number;

	if (!walk)
		return 0;
	tgid = walk->sample.tgid;
	process = bpf_map_lookup_elem(&processes, &tgid);
	if (!process)
		return 0;
	for (int i = 0; i < ROUND_FRAMES; i++) {
		address = walk->frame;
		if (!address)
			return 0;
		if (bpf_probe_read_user(walk->frame_block +
						(process->frame_start & (FRAME_BLOCK - 8)),
					process->frame_size & (FRAME_BLOCK - 1),
					(const void *)(address + process->frame_start)))
			return stop(walk);
		walk->frame = frame_pointer(walk, process->frame_previous);
		code = frame_pointer(walk, process->frame_code) & ~POINTER_TAG;
		cached = &walk->cache[spread(code) >> 24];
		number = cached->number;
		if (cached->code != code || cached->sample != walk->samples) {
			number = find_code(code, address);
			if (!number)
				return stop(walk);
			cached->code = code;
			cached->number = number;
			cached->sample = walk->samples;
		}
		if (number == FOREIGN)
			continue;
		add_frame(walk, process, number, code);
		/* About every 32nd address ends a part. */
		if (spread(address) >> 27 == 0 || walk->part.count >= FRAMES_PER_PART)
			end_part();
	}
	return 1;
}

/* Sends the sample, or counts it as lost, by its innermost frame. */
static __always_inline void end_sample(struct walk *walk)
{
	__u64 *samples, parts = walk->sample.count, one = 1;

	if (parts > MAX_PARTS)
		return;
	if (walk->sample.flags & SAMPLE_UNREADABLE)
		count(PYTHON_UNREADABLE);
	if (walk->sample.flags & SAMPLE_TOO_DEEP)
		count(PYTHON_TOO_DEEP);
	if (!walk->lost &&
	    !bpf_ringbuf_output(&records, &walk->sample,
				offsetof(struct sample_record, parts) + parts * sizeof(__u64), 0))
		return;
	count(PYTHON_LOST);
	samples = bpf_map_lookup_elem(&lost_samples, &walk->innermost);
	if (samples)
		__sync_fetch_and_add(samples, 1);
	else
		bpf_map_update_elem(&lost_samples, &walk->innermost, &one, BPF_NOEXIST);
}

SEC("perf_event")
int on_sample(void *ctx __attribute__((unused)))
{
	__u64 id = bpf_get_current_pid_tgid(), thread;
	__u32 tgid = id >> 32, tid = id;
	struct python_process *process = bpf_map_lookup_elem(&processes, &tgid);
	struct walk *walk = this_walk();

	if (!process || !walk)
		return 0;
	count(PYTHON_SEEN);
	thread = find_thread(tgid, tid);
	if (!thread)
		return 0;
	walk->frame = pointer_at(thread + process->thread_frame);
	if (walk->frame && process->has_cframe)
		walk->frame = pointer_at(walk->frame + process->cframe_frame);
	if (!walk->frame) {
		count(PYTHON_NO_FRAME);
		return 0;
	}
	walk->samples++;
	walk->hash = 0;
	walk->lost = 0;
	walk->innermost.tgid = tgid;
	walk->innermost.code = 0;
	walk->innermost.offset = 0;
	walk->part.count = 0;
	walk->sample.kind = RECORD_SAMPLE;
	walk->sample.count = 0;
	walk->sample.time = bpf_ktime_get_ns();
	walk->sample.cpu = bpf_get_smp_processor_id();
	walk->sample.tgid = tgid;
	walk->sample.tid = tid;
	walk->sample.flags = 0;
	bpf_get_current_comm(walk->sample.comm, sizeof(walk->sample.comm));
	for (int i = 0; i < MAX_ROUNDS; i++) {
		if (!walk_round())
			break;
	}
	if (walk->frame)
		walk->sample.flags |= SAMPLE_TOO_DEEP;
	if (walk->part.count)
		end_part();
	end_sample(walk);
	return 0;
}

static __always_inline int tell(__u32 event, __u32 tgid, __u32 parent, __u32 sampled)
{
	struct process_record record = {
		.kind = RECORD_PROCESS,
		.event = event,
		.tgid = tgid,
		.parent = parent,
		.sampled = sampled,
	};

	bpf_get_current_comm(record.comm, sizeof(record.comm));
	bpf_ringbuf_output(&records, &record, sizeof(record), 0);
	return 0;
}

/*
 * A forked child has the interpreter of its parent, at the same addresses. So it is sampled from
 * its first instruction on: it does not run before this has ended.
 *
 * TP_PROTO(struct task_struct *parent, struct task_struct *child)
 */
SEC("raw_tp/sched_process_fork")
int on_fork(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 parent = bpf_get_current_pid_tgid() >> 32;
	__u32 child = BPF_CORE_READ((struct task_struct *)ctx->args[1], tgid);
	struct python_process *process;
	__u8 one = 1;

	if (child == parent || !bpf_map_lookup_elem(&followed, &parent))
		return 0; /* a thread, or of another process */
	bpf_map_update_elem(&followed, &child, &one, BPF_ANY);
	process = bpf_map_lookup_elem(&processes, &parent);
	if (process && bpf_map_update_elem(&processes, &child, process, BPF_ANY))
		process = NULL; /* there are too many */
	return tell(PROCESS_FORKED, child, parent, process != NULL);
}

/* User space looks for an interpreter in what the process executes now. */
SEC("raw_tp/sched_process_exec")
int on_exec(void *ctx __attribute__((unused)))
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (!bpf_map_lookup_elem(&followed, &tgid))
		return 0;
	bpf_map_delete_elem(&processes, &tgid);
	return tell(PROCESS_EXECUTED, tgid, 0, 0);
}

SEC("raw_tp/sched_process_exit")
int on_exit(void *ctx __attribute__((unused)))
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tgid = id >> 32, tid = id;

	/* Threads that go on after the first one has ended are no longer sampled. */
	if (tid != tgid || bpf_map_delete_elem(&followed, &tgid))
		return 0;
	bpf_map_delete_elem(&processes, &tgid);
	return tell(PROCESS_EXITED, tgid, 0, 0);
}
