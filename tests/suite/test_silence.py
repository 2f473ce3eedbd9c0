"""A test that is silent is said to be still running, once in each interval."""

import asyncio
import time

from bpfmatrix.suite.silence import SilenceWatch

# Nothing here waits for the second: it must not come.
NEVER = 3600.0


def test_silence_is_told_again_and_again() -> None:
    told: list[float] = []

    async def silent() -> None:
        third = asyncio.Event()

        def tell(seconds: float) -> None:
            told.append(seconds)
            if len(told) == 3:
                third.set()

        async with SilenceWatch(tell, 0.01):
            await third.wait()

    asyncio.run(silent())
    # All are since the same moment, as nothing was heard meanwhile.
    assert told[2] > told[1] > told[0]
    assert told[2] >= 0.03


def test_what_is_heard_begins_a_new_interval() -> None:
    since: list[float] = []

    async def heard_once() -> float:
        first, second = asyncio.Event(), asyncio.Event()

        def tell(seconds: float) -> None:
            since.append(time.monotonic() - seconds)
            (second if first.is_set() else first).set()

        async with SilenceWatch(tell, 0.05) as watch:
            await first.wait()
            before = time.monotonic()
            watch.heard()
            await second.wait()
            return before

    assert asyncio.run(heard_once()) <= since[1]


def test_nothing_is_told_before_the_interval_is_over_or_after_the_end() -> None:
    told: list[float] = []

    async def short() -> None:
        async with SilenceWatch(told.append, NEVER) as watch:
            watch.heard()
            await asyncio.sleep(0)

    asyncio.run(short())
    assert told == []
