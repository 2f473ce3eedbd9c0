"""What TestPythonTracer samples: threads that spin for ever in calls whose lines they know.

Each thread prints one JSON line: its id, and its frames as CPython itself tells of them, the
innermost first, with the line, and what the tracer is to find out without its help.
"""

import json
import sys
import threading

DEPTH = int(sys.argv[1])
TELLING = threading.Lock()
# Nobody spins before all have told, as that would slow the others down.
TOLD = threading.Barrier(3)


def tell(thread):
    frames = []
    last = None
    frame = sys._getframe(1)
    while frame:
        code = frame.f_code
        # A frame of a recursion is told once, and how often.
        if last == (code, frame.f_lasti):
            frames[-1]["times"] += 1
        else:
            last = (code, frame.f_lasti)
            frames.append(
                {
                    "file": code.co_filename,
                    "name": code.co_qualname,
                    "line": frame.f_lineno,
                    "first_line": code.co_firstlineno,
                    "arguments": code.co_argcount,
                    "keyword_only": code.co_kwonlyargcount,
                    "flags": code.co_flags,
                    "table": code.co_linetable.hex(),
                    "offset": frame.f_lasti,
                    "times": 1,
                }
            )
        frame = frame.f_back
    told = {"thread": thread, "tid": threading.get_native_id(), "frames": frames}
    with TELLING:
        print(json.dumps(told), flush=True)
    TOLD.wait()


def spin(thread):
    tell(thread)
    while True: pass  # noqa: E701 - one line, whatever part of it runs # fmt: skip


def recurse(depth, /, *, thread):
    if depth:
        return recurse(
            depth - 1,
            thread=thread,
        )
    return spin(thread)


class Nested:
    def method(self, thread):
        call = lambda: [spin(thread) for _ in "x"]  # noqa: E731 - it is about lambdas, too

        def generator():
            yield (call())

        return next(generator())


def deep():
    recurse(DEPTH, thread="deep")


def too_deep():
    sys.setrecursionlimit(4000)
    recurse(1500, thread="too deep")


threading.Thread(target=deep).start()
threading.Thread(target=too_deep).start()
Nested().method(thread="nested")
