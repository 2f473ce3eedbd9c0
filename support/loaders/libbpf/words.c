// SPDX-License-Identifier: Apache-2.0
// What libbpf says: it is kept, as facts for a reply, and never printed.

#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "loader.h"

#define PREFIX "libbpf: "

// More lines are not kept: none of libbpf's refusals has as many.
#define MAX_LINES 100
// In bytes, of a line.
#define MAX_LENGTH 2000
// Of a message of several lines, so many of the last ones are kept.
#define LOG_LINES 3

static char *lines[MAX_LINES];
static size_t line_count;
static json_t *unresolved;
static json_t *skipped;
// What the kernel said of the object's BTF, which libbpf went on without; empty if it said nothing.
static char *btf_left_out;

static bool starts_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

// The end of a text of several lines: they are the kernel's log of BTF that it refused, which is a
// list of all types, and then says what is wrong.
static const char *last_lines(const char *text)
{
	const char *start = text + strlen(text);

	for (int left = LOG_LINES + 1; start > text; start--) {
		if (start[-1] == '\n' && start[0] && !left--)
			break;
	}
	return start;
}

static void keep_line(const char *text, size_t size)
{
	if (line_count < MAX_LINES && size)
		lines[line_count++] = strndup(text, size < MAX_LENGTH ? size : MAX_LENGTH);
}

static void keep_lines(const char *text)
{
	const char *log = strchr(text, '\n');
	const char *line, *end;

	keep_line(text, log ? (size_t)(log - text) : strlen(text));
	for (line = log ? last_lines(log + 1) : ""; *line; line = *end ? end + 1 : end) {
		line += strspn(line, " \t");
		end = line + strcspn(line, "\n");
		keep_line(line, end - line);
	}
}

// The last line of the kernel's log of BTF, which libbpf has printed between two lines of its own,
// if it is a complaint: for some refusals, the log is only a list of all types.
static const char *complaint_of_btf_log(void)
{
	static const char *const complaints[] = {"nvalid", "xceed", "nsupported", " not ",
						 "ismatch"};
	const char *line = line_count > 1 ? lines[line_count - 2] : "";

	if (!line_count || strcmp(lines[line_count - 1], "-- END BTF LOAD LOG --") != 0)
		return "";
	for (size_t i = 0; i < sizeof(complaints) / sizeof(*complaints); i++) {
		if (strstr(line, complaints[i]))
			return line;
	}
	return "";
}

// Of libbpf's messages below warnings, those that tell what it left out are known by their format.
static int listen(enum libbpf_print_level level, const char *format, va_list args)
{
	char text[MAX_LENGTH + 1];
	char *message;
	int size;

	if (level == LIBBPF_DEBUG && starts_with(format, PREFIX "extern '%s' (weak): not resolved"))
		json_array_append_new(unresolved, text_json(va_arg(args, const char *)));
	if (level == LIBBPF_INFO && starts_with(format, PREFIX "struct_ops %s: member %s not")) {
		vsnprintf(text, sizeof(text), format, args);
		text[strcspn(text, "\n")] = '\0';
		json_array_append_new(skipped, text_json(text));
	}
	if (level == LIBBPF_INFO && strstr(format, "BTF is optional, ignoring")) {
		free(btf_left_out);
		btf_left_out = strdup(complaint_of_btf_log());
	}
	if (level != LIBBPF_WARN)
		return 0;
	size = vasprintf(&message, format, args);
	if (size >= 0) {
		keep_lines(message);
		free(message);
	}
	return size;
}

void words_listen(void)
{
	words_clear();
	libbpf_set_print(listen);
}

void words_clear(void)
{
	while (line_count)
		free(lines[--line_count]);
	json_decref(unresolved);
	unresolved = json_array();
	json_decref(skipped);
	skipped = json_array();
	free(btf_left_out);
	btf_left_out = NULL;
}

json_t *words_about(const char *name)
{
	json_t *words = json_array();

	for (size_t i = 0; i < line_count; i++) {
		const char *found = strstr(lines[i], name);
		size_t size = strlen(name);

		if (found && found > lines[i] && strchr("'(", found[-1]) &&
		    strchr("').", found[size]))
			json_array_append_new(words, text_json(lines[i]));
	}
	return words;
}

json_t *words_json(void)
{
	json_t *words = json_array();

	for (size_t i = 0; i < line_count; i++)
		json_array_append_new(words, text_json(lines[i]));
	return words;
}

const char *words_last(const char *beginning)
{
	for (size_t i = line_count; i > 0; i--) {
		const char *line = lines[i - 1];

		if (starts_with(line, PREFIX) && starts_with(line + strlen(PREFIX), beginning))
			return line;
	}
	return NULL;
}

bool words_contain(const char *text)
{
	for (size_t i = 0; i < line_count; i++) {
		if (strstr(lines[i], text))
			return true;
	}
	return false;
}

json_t *words_unresolved(void)
{
	return json_incref(unresolved);
}

const char *words_btf_left_out(void)
{
	return btf_left_out;
}

json_t *words_skipped(void)
{
	return json_incref(skipped);
}

json_t *text_json(const char *text)
{
	json_t *value = json_string(text);
	char *clean, *c;

	if (value || !text)
		return value ? value : json_null();
	clean = strdup(text);
	for (c = clean; c && *c; c++) {
		if (!isascii(*c))
			*c = '?';
	}
	value = json_string(clean ? clean : "");
	free(clean);
	return value;
}

char *between(const char *text, const char *before, const char *after)
{
	const char *start = text ? strstr(text, before) : NULL;
	const char *end;

	if (!start)
		return NULL;
	start += strlen(before);
	end = strstr(start, after);
	return end ? strndup(start, end - start) : NULL;
}

#define NAME(error)                                                                                \
	case error:                                                                                \
		return #error

// The errors that the kernel's BPF code, its file systems and sockets, and libbpf return. ENOTSUPP
// is the kernel's own (include/linux/errno.h); no header of programs has it.
const char *error_name(int error)
{
	static char number[16];

	if (error < 0)
		error = -error;
	switch (error) {
		NAME(EPERM);
		NAME(ENOENT);
		NAME(ESRCH);
		NAME(EINTR);
		NAME(EIO);
		NAME(ENXIO);
		NAME(E2BIG);
		NAME(ENOEXEC);
		NAME(EBADF);
		NAME(ECHILD);
		NAME(EAGAIN);
		NAME(ENOMEM);
		NAME(EACCES);
		NAME(EFAULT);
		NAME(ENOTBLK);
		NAME(EBUSY);
		NAME(EEXIST);
		NAME(EXDEV);
		NAME(ENODEV);
		NAME(ENOTDIR);
		NAME(EISDIR);
		NAME(EINVAL);
		NAME(ENFILE);
		NAME(EMFILE);
		NAME(ENOTTY);
		NAME(ETXTBSY);
		NAME(EFBIG);
		NAME(ENOSPC);
		NAME(ESPIPE);
		NAME(EROFS);
		NAME(EMLINK);
		NAME(EPIPE);
		NAME(EDOM);
		NAME(ERANGE);
		NAME(EDEADLK);
		NAME(ENAMETOOLONG);
		NAME(ENOLCK);
		NAME(ENOSYS);
		NAME(ENOTEMPTY);
		NAME(ELOOP);
		NAME(ENOMSG);
		NAME(ENODATA);
		NAME(ETIME);
		NAME(ENOLINK);
		NAME(EPROTO);
		NAME(EBADMSG);
		NAME(EOVERFLOW);
		NAME(EBADFD);
		NAME(EILSEQ);
		NAME(EUSERS);
		NAME(ENOTSOCK);
		NAME(EDESTADDRREQ);
		NAME(EMSGSIZE);
		NAME(EPROTOTYPE);
		NAME(ENOPROTOOPT);
		NAME(EPROTONOSUPPORT);
		NAME(ESOCKTNOSUPPORT);
		NAME(EOPNOTSUPP);
		NAME(EPFNOSUPPORT);
		NAME(EAFNOSUPPORT);
		NAME(EADDRINUSE);
		NAME(EADDRNOTAVAIL);
		NAME(ENETDOWN);
		NAME(ENETUNREACH);
		NAME(ECONNABORTED);
		NAME(ECONNRESET);
		NAME(ENOBUFS);
		NAME(EISCONN);
		NAME(ENOTCONN);
		NAME(ETIMEDOUT);
		NAME(ECONNREFUSED);
		NAME(EHOSTUNREACH);
		NAME(EALREADY);
		NAME(EINPROGRESS);
		NAME(ESTALE);
		NAME(EUCLEAN);
		NAME(EDQUOT);
		NAME(ECANCELED);
		NAME(ENOKEY);
		NAME(LIBBPF_ERRNO__LIBELF);
		NAME(LIBBPF_ERRNO__FORMAT);
		NAME(LIBBPF_ERRNO__KVERSION);
		NAME(LIBBPF_ERRNO__ENDIAN);
		NAME(LIBBPF_ERRNO__INTERNAL);
		NAME(LIBBPF_ERRNO__RELOC);
		NAME(LIBBPF_ERRNO__LOAD);
		NAME(LIBBPF_ERRNO__VERIFY);
		NAME(LIBBPF_ERRNO__PROG2BIG);
		NAME(LIBBPF_ERRNO__KVER);
		NAME(LIBBPF_ERRNO__PROGTYPE);
		NAME(LIBBPF_ERRNO__WRNGPID);
		NAME(LIBBPF_ERRNO__INVSEQ);
		NAME(LIBBPF_ERRNO__NLPARSE);
	case 524:
		return "ENOTSUPP";
	}
	snprintf(number, sizeof(number), "%d", error);
	return number;
}
