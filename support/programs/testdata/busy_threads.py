"""What TestPythonTracer samples: threads that run endless loops in nested calls.

Each thread prints one line of JSON: its id, and its frames as CPython itself reports them, the
innermost first. A frame has its line, and what the tracer and bytecode-lines have to find.
"""

import json
import sys
import threading

DEPTH, MAX_FRAMES, IDLE_THREADS = map(int, sys.argv[1:])
PRINTING = threading.Lock()
# No thread starts its loop before all have reported: a busy thread would slow down the others.
ALL_REPORTED = threading.Barrier(3)


def report(thread):
    frames = []
    last = None
    frame = sys._getframe(1)
    while frame:
        code = frame.f_code
        # The equal frames of a recursion are reported as one, with their number.
        if last == (code, frame.f_lasti):
            frames[-1]["times"] += 1
        else:
            last = (code, frame.f_lasti)
            frames.append(
                {
                    "file": code.co_filename,
                    "name": getattr(code, "co_qualname", code.co_name),  # 3.11
                    "qualified": hasattr(code, "co_qualname"),
                    "line": frame.f_lineno,
                    "first_line": code.co_firstlineno,
                    "arguments": code.co_argcount,
                    "keyword_only": code.co_kwonlyargcount,
                    "flags": code.co_flags,
                    "table": getattr(code, "co_linetable", code.co_lnotab).hex(),  # 3.10
                    "offset": frame.f_lasti,
                    "times": 1,
                }
            )
        frame = frame.f_back
    line = {"thread": thread, "tid": threading.get_native_id(), "frames": frames}
    with PRINTING:
        print(json.dumps(line), flush=True)
    ALL_REPORTED.wait()


def spin(thread):
    report(thread)
    while True: pass  # noqa: E701 - the loop must be in one line # fmt: skip


def recurse(depth, /, *, thread):
    if depth:
        return recurse(
            depth - 1,
            thread=thread,
        )
    return spin(thread)


class Nested:
    def method(self, thread):
        call = lambda: [spin(thread) for _ in "x"]  # noqa: E731 - a lambda is one of the cases

        def generator():
            yield (call())

        return next(generator())


def deep():
    recurse(DEPTH, thread="deep")


def too_deep():
    recurse(MAX_FRAMES, thread="too deep")


sys.setrecursionlimit(2 * MAX_FRAMES)
# The interpreter's list of threads begins with the newest: the main thread is the last one.
threading.stack_size(1 << 18)
idle = threading.Event()
for _ in range(IDLE_THREADS):
    threading.Thread(target=idle.wait, daemon=True).start()
threading.stack_size(0)

threading.Thread(target=deep).start()
threading.Thread(target=too_deep).start()
Nested().method(thread="nested")
