import asyncio
import threading
from pathlib import Path

import pytest

from bpfmatrix.host.locks import folder_locked_if_free, locked, locked_if_free, locked_in_loop


def test_who_waits_says_so_and_comes_after(tmp_path: Path) -> None:
    order: list[str] = []
    waits = threading.Event()

    def second() -> None:
        with locked(tmp_path / "lock", waits.set):
            order.append("second")

    with locked(tmp_path / "lock", waiting=lambda: order.append("waited")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(20)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_a_lock_that_is_held_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked_if_free(path) as first, locked_if_free(path) as second:
        assert (first, second) == (True, False)
    with locked_if_free(path) as third:
        assert third


def test_the_loop_goes_on_while_a_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"

    async def wait() -> list[str]:
        order: list[str] = []

        async def second() -> None:
            async with locked_in_loop(path):
                order.append("second")

        with locked(path):
            waiting = asyncio.create_task(second())
            await asyncio.sleep(0)  # it tries, and waits
            order.append("first")
        await asyncio.wait_for(waiting, 20)
        return order

    assert asyncio.run(wait()) == ["first", "second"]


def test_a_folder_that_is_gone_is_not_made(tmp_path: Path) -> None:
    with folder_locked_if_free(tmp_path) as first, folder_locked_if_free(tmp_path) as second:
        assert (first, second) == (True, False)
    with pytest.raises(FileNotFoundError), folder_locked_if_free(tmp_path / "gone"):
        raise AssertionError("there is nothing to lock")
    with pytest.raises(FileNotFoundError), locked(tmp_path / "gone/lock"):
        raise AssertionError("there is nothing to lock")
