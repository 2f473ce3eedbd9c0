import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bpfmatrix.host.cache import Cache
from tests.tool import wait_until


def python(code: str, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from bpfmatrix.host.cache import Cache\nfrom pathlib import Path\n"
            "import sys, time\ncache = Cache(Path(sys.argv[1]))\n" + code,
            *words,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def waits_for_a_lock(pid: int) -> bool:
    """Tell whether /proc/locks (proc_locks(5)) has a process among those that wait, after `->`."""
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return any(line[1:3] == ["->", "FLOCK"] and line[5] == str(pid) for line in lines)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BPFMATRIX_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Cache.default().root == tmp_path / "own"
    monkeypatch.setenv("BPFMATRIX_CACHE", "")
    assert Cache.default().root == tmp_path / "xdg/bpfmatrix"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert Cache.default().root == tmp_path / "home/.cache/bpfmatrix"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Cache.default().root == tmp_path / "home/.cache/bpfmatrix"


def test_a_lock_keeps_other_processes_out(cache: Cache) -> None:
    with cache.lock("a/b"):
        other = python("with cache.lock('a/b'): print('in', flush=True)", str(cache.root))
        unrelated = python("with cache.lock('c'): print('in', flush=True)", str(cache.root))
        assert unrelated.communicate(timeout=20)[0] == "in\n"
        wait_until(lambda: waits_for_a_lock(other.pid), "the other one waits for the lock")
        assert other.poll() is None
    assert other.communicate(timeout=20)[0] == "in\n"


def test_a_killed_holder_frees_its_lock(cache: Cache) -> None:
    holder = python(
        "with cache.lock('a'): print('in', flush=True); time.sleep(60)", str(cache.root)
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    holder.kill()
    holder.communicate()
    started = time.monotonic()
    with cache.lock("a"):
        assert time.monotonic() - started < 5  # the holder would have kept it for 60 s


def test_staging_is_removed_however_it_ends(cache: Cache) -> None:
    with cache.staging() as folder:
        (folder / "file").write_text("x")
        assert folder.stat().st_dev == cache.root.stat().st_dev
    assert not folder.exists()
    with pytest.raises(KeyError), cache.staging() as folder:
        raise KeyError
    assert not folder.exists()


def test_a_folder_that_was_moved_out_of_staging_stays(cache: Cache) -> None:
    with cache.staging() as folder:
        (folder / "made").mkdir()
        (folder / "made").rename(cache.root / "kept")
    assert (cache.root / "kept").is_dir()


def test_staging_in_use_is_left_alone(cache: Cache) -> None:
    with cache.staging() as one:
        (one / "file").write_text("x")
        with cache.staging() as other:
            assert one != other
            assert (one / "file").exists()


def test_staging_of_a_killed_process_is_removed_by_the_next(cache: Cache) -> None:
    killed = python(
        "with cache.staging() as f: (f / 'half').write_text('x'); print(f, flush=True);"
        " time.sleep(60)",
        str(cache.root),
    )
    assert killed.stdout is not None
    stale = Path(killed.stdout.readline().strip())
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert (stale / "half").exists()
    with cache.staging():
        assert not stale.exists()


def test_processes_do_not_remove_the_staging_of_others(cache: Cache) -> None:
    code = (
        "for n in range(40):\n"
        "    with cache.staging() as f:\n"
        "        (f / 'x').write_text('x'); time.sleep(0.001); assert (f / 'x').exists()\n"
    )
    workers = [python(code, str(cache.root)) for _ in range(4)]
    wait_until(lambda: all(worker.poll() is not None for worker in workers), "workers ended")
    for worker in workers:
        worker.communicate()
    assert [worker.returncode for worker in workers] == [0, 0, 0, 0]
    assert list((cache.root / "tmp").iterdir()) == []


def test_what_takes_a_network_is_kept_longer(cache: Cache) -> None:
    made, fetched = cache.root / "bytecode-lines/a", cache.root / "loader-sources/b.tar"
    month_ago = time.time() - 30 * 24 * 3600
    for path in (made, fetched):
        path.parent.mkdir(parents=True)
        path.touch()
        os.utime(path, (month_ago, month_ago))
    assert [item.name for item in cache.prune_derived()] == ["bytecode-lines/a"]
    assert fetched.exists()
    assert [item.name for item in cache.prune_derived(0)] == ["loader-sources/b.tar"]
