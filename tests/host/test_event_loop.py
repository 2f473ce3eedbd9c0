"""Ctrl-C while a coroutine runs."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine

import pytest

from bpfmatrix.host import event_loop


class Failed(Exception):
    """What the coroutines of these tests raise."""


async def wait_for_ctrl_c(then: BaseException | None = None) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if then is not None:
            raise then from None
        raise


async def side_by_side(then: BaseException | None = None) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait())
        group.create_task(wait_for_ctrl_c(then))


@pytest.mark.parametrize("main", [wait_for_ctrl_c, side_by_side])
@pytest.mark.parametrize("then", [None, Failed()])
def test_ctrl_c_is_a_keyboard_interrupt_whatever_is_raised_then(
    main: Callable[[BaseException | None], Coroutine[None, None, None]], then: Exception | None
) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        event_loop.run(main(then))
    if then is not None:
        assert caught.value.__cause__ is not None
    # The next Ctrl-C is one again.
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_without_ctrl_c_stays_what_it_is() -> None:
    async def fail() -> None:
        raise Failed

    async def in_a_group() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    async def in_time() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    with pytest.raises(Failed):
        event_loop.run(fail())
    # Python 3.11 leaves the task of a group that failed marked as being cancelled.
    with pytest.raises(ExceptionGroup):
        event_loop.run(in_a_group())
    with pytest.raises(TimeoutError):
        event_loop.run(in_time())


def test_a_coroutine_returns_its_value() -> None:
    async def value() -> int:
        return 3

    assert event_loop.run(value()) == 3
