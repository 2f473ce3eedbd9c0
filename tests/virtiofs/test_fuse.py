"""The FUSE server, asked by a well-behaved client and by a malicious one."""

import errno
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix.virtiofs import fuse
from bpfmatrix.virtiofs.fuse import FuseServer

ROOT = 1
LOOKUP, FORGET, GETATTR, SETATTR, READLINK, SYMLINK = 1, 2, 3, 4, 5, 6
MKNOD, MKDIR, UNLINK, RENAME, LINK, OPEN, READ, WRITE = 8, 9, 10, 12, 13, 14, 15, 16
RELEASE, SETXATTR, GETXATTR, INIT, OPENDIR, READDIR, RELEASEDIR, CREATE = (
    *(18, 21, 22, 26, 27, 28, 29, 35),
)
WRITING = (4, 6, 8, 9, 10, 11, 12, 13, 16, 35, 43, 45)


@dataclass
class Client:
    """Sends requests as the kernel does."""

    server: FuseServer
    unique: int = 0
    reply: bytearray = field(default_factory=lambda: bytearray(1 << 17))

    def ask(self, opcode: int, node: int, body: bytes = b"") -> bytes:
        """Return the body of the reply; raises OSError with the error in the reply."""
        self.unique += 1
        header = struct.pack("<IIQQIIII", 40 + len(body), opcode, self.unique, node, 0, 0, 0, 0)
        whole = memoryview(self.reply)
        # In several buffers, since a guest gives pages.
        pieces = [whole[:16], whole[16:100], whole[100:]]
        size = self.server.answer(header + body, pieces)
        if opcode == FORGET:
            assert size == 0
            return b""
        length, error, unique = struct.unpack_from("<IiQ", self.reply)
        assert (length, unique) == (size, self.unique)
        if error:
            raise OSError(-error, os.strerror(-error))
        return bytes(self.reply[16:size])

    def lookup(self, name: bytes, node: int = ROOT) -> int:
        number: int = struct.unpack_from("<Q", self.ask(LOOKUP, node, name + b"\0"))[0]
        return number

    def open(self, node: int, flags: int = os.O_RDONLY) -> int:
        handle: int = struct.unpack_from("<Q", self.ask(OPEN, node, struct.pack("<II", flags, 0)))[
            0
        ]
        return handle

    def read(self, handle: int, offset: int = 0, size: int = 1 << 16) -> bytes:
        return self.ask(READ, 0, struct.pack("<QQIIQII", handle, offset, size, 0, 0, 0, 0))

    def names(self, node: int = ROOT) -> dict[bytes, int]:
        """List a folder by many small READDIRs: the type of each name."""
        handle = struct.unpack_from("<Q", self.ask(OPENDIR, node, bytes(8)))[0]
        found, offset = {}, 0
        while content := self.ask(
            READDIR, 0, struct.pack("<QQIIQII", handle, offset, 80, *[0] * 4)
        ):
            at = 0
            while at < len(content):
                _, offset, length, kind = struct.unpack_from("<QQII", content, at)
                found[content[at + 24 : at + 24 + length]] = kind
                at += 24 + length + -length % 8
        return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with a few files, and a secret beside it."""
    (tmp_path / "secret").write_text("of nobody's business")
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "folder/inner").write_text("inner")
    (root / "file").write_text("content")
    (root / "link").symlink_to("../secret")
    (root / "away").symlink_to("..")
    return root


def client(tree: Path, writable: bool = False) -> Client:
    return Client(FuseServer(tree, writable, 1.0))


def refused(number: int) -> "pytest.RaisesExc[OSError]":
    return pytest.raises(OSError, match=f"Errno {number}]")


def test_reading(tree: Path) -> None:
    asked = client(tree)
    version = struct.unpack_from(
        "<II", asked.ask(INIT, 0, struct.pack("<IIII", 7, 45, 4096, ~0 & 0xFFFFFFFF))
    )
    assert version == (7, 31)
    inner = asked.lookup(b"inner", asked.lookup(b"folder"))
    handle = asked.open(inner)
    assert asked.read(handle) == b"inner"
    assert asked.read(handle, offset=2, size=2) == b"ne"
    assert asked.read(handle, offset=99) == b""
    asked.ask(RELEASE, inner, struct.pack("<QIIQ", handle, 0, 0, 0))
    with refused(errno.EBADF):
        asked.read(handle)
    assert asked.ask(READLINK, asked.lookup(b"link")) == b"../secret"
    folder, file, link = stat.S_IFDIR >> 12, stat.S_IFREG >> 12, stat.S_IFLNK >> 12
    assert asked.names() == {b"folder": folder, b"file": file, b"link": link, b"away": link}
    # The client may remember that the name does not exist.
    assert asked.lookup(b"nothing") == 0
    with refused(errno.ENOSYS):
        asked.ask(GETXATTR, ROOT, struct.pack("<II", 0, 0) + b"user.a\0")


def test_a_file_of_several_buffers(tree: Path) -> None:
    content = os.urandom(100_000)
    (tree / "large").write_bytes(content)
    asked = client(tree)
    assert asked.read(asked.open(asked.lookup(b"large")), size=1 << 17) == content


@pytest.mark.parametrize("name", [b"..", b".", b"", b"folder/inner", b"/etc", b"../secret"])
@pytest.mark.parametrize("opcode", [LOOKUP, UNLINK])
def test_a_name_that_leads_elsewhere_is_refused(tree: Path, name: bytes, opcode: int) -> None:
    with refused(errno.EINVAL):
        client(tree, writable=True).ask(opcode, ROOT, name + b"\0")


def test_symbolic_links_are_not_followed(tree: Path) -> None:
    asked = client(tree, writable=True)
    for name in (b"link", b"away"):
        node = asked.lookup(name)
        with refused(errno.ENOTDIR):
            asked.lookup(b"secret", node)
        with refused(errno.EACCES):
            asked.open(node)
        with refused(errno.EACCES):
            asked.ask(CREATE, ROOT, struct.pack("<4I", os.O_WRONLY, 0o644, 0, 0) + name + b"\0")
    # A node stays the same folder, whatever takes the name of the folder.
    folder = asked.lookup(b"folder")
    (tree / "folder").rename(tree / "moved")
    (tree / "folder").symlink_to("..")
    assert asked.lookup(b"inner", folder) > 0
    assert asked.lookup(b"secret", folder) == 0


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC])
def test_a_read_only_file_is_not_opened_to_write(tree: Path, flags: int) -> None:
    asked = client(tree)
    with refused(errno.EROFS):
        asked.open(asked.lookup(b"file"), flags)
    assert (tree / "file").read_text() == "content"


@pytest.mark.parametrize("opcode", WRITING)
def test_a_read_only_folder_refuses_all_that_writes(tree: Path, opcode: int) -> None:
    with refused(errno.EROFS):
        client(tree).ask(opcode, ROOT, bytes(64))


def test_writing(tree: Path) -> None:
    asked = client(tree, writable=True)
    body = struct.pack("<4I", os.O_RDWR | os.O_EXCL, 0o640, 0, 0) + b"new\0"
    handle = struct.unpack_from("<Q", asked.ask(CREATE, ROOT, body), 128)[0]
    data = b"0123456789"
    written = asked.ask(WRITE, 0, struct.pack("<QQIIQII", handle, 5, len(data), *[0] * 4) + data)
    assert struct.unpack("<II", written) == (10, 0)
    assert (tree / "new").read_bytes() == bytes(5) + data
    assert (tree / "new").stat().st_mode & 0o777 == 0o640
    with refused(errno.EEXIST):
        asked.ask(CREATE, ROOT, body)
    asked.ask(RENAME, ROOT, struct.pack("<Q", asked.lookup(b"folder")) + b"new\0older\0")
    assert (tree / "folder/older").exists()
    asked.ask(LINK, ROOT, struct.pack("<Q", asked.lookup(b"link")) + b"same link\0")
    assert (tree / "same link").is_symlink()
    # The user who runs the server is root to the client, and no other owner can be set.
    own = setattr_body(uid=0, valid=1 << 1)
    attributes = asked.ask(SETATTR, asked.lookup(b"file"), own)[16:]
    assert struct.unpack_from("<2I", attributes, 68) == (0, 0)
    with refused(errno.EPERM):
        asked.ask(SETATTR, asked.lookup(b"file"), setattr_body(uid=5, valid=1 << 1))
    with refused(errno.EPERM):
        asked.ask(MKNOD, ROOT, struct.pack("<4I", stat.S_IFBLK | 0o600, 0x801, 0, 0) + b"disk\0")
    with refused(errno.EINVAL):
        asked.ask(SETATTR, asked.lookup(b"file"), setattr_body(size=1 << 63, valid=1 << 3))


def setattr_body(valid: int, size: int = 0, uid: int = 0, gid: int = 0, mode: int = 0) -> bytes:
    times = [0] * 6
    return struct.pack(
        "<IIQQQQQQ8I", valid, 0, 0, size, 0, *times[:3], *times[3:], mode, 0, uid, gid, 0
    )


SET_MODE, SET_UID, SET_GID = 1, 2, 4
SETUID, SETGID = stat.S_ISUID, stat.S_ISGID


@pytest.mark.parametrize("bits", [SETUID, SETGID, SETUID | SETGID])
def test_a_guest_can_not_set_setuid_or_setgid(tree: Path, bits: int) -> None:
    asked = client(tree, writable=True)
    for name in (b"file", b"folder"):
        with refused(errno.EPERM):
            asked.ask(SETATTR, asked.lookup(name), setattr_body(SET_MODE, mode=bits | 0o755))
    with refused(errno.EPERM):
        asked.ask(CREATE, ROOT, struct.pack("<4I", os.O_WRONLY, bits | 0o755, 0, 0) + b"new\0")
    with refused(errno.EPERM):
        asked.ask(MKNOD, ROOT, struct.pack("<4I", stat.S_IFREG | bits | 0o755, 0, 0, 0) + b"new\0")
    with refused(errno.EPERM):
        asked.ask(MKDIR, ROOT, struct.pack("<2I", bits | 0o755, 0) + b"new\0")
    assert not (tree / "new").exists()
    assert not any(path.stat().st_mode & (SETUID | SETGID) for path in (tree / "file", tree))
    # The other bits are set as before, the sticky bit too.
    asked.ask(SETATTR, asked.lookup(b"folder"), setattr_body(SET_MODE, mode=0o1777))
    assert stat.S_IMODE((tree / "folder").stat().st_mode) == 0o1777


def test_what_has_setuid_or_setgid_on_the_host_can_only_lose_it(tree: Path) -> None:
    asked = client(tree, writable=True)
    (tree / "file").chmod(SETUID | 0o755)
    (tree / "folder").chmod(SETGID | 0o755)
    with refused(errno.EPERM):
        asked.ask(SETATTR, asked.lookup(b"file"), setattr_body(SET_MODE, mode=SETUID | 0o777))
    asked.ask(SETATTR, asked.lookup(b"file"), setattr_body(SET_MODE, mode=0o755))
    assert stat.S_IMODE((tree / "file").stat().st_mode) == 0o755
    # chmod(1) keeps the setgid bit of a folder, whose files the host gives to its group.
    asked.ask(SETATTR, asked.lookup(b"folder"), setattr_body(SET_MODE, mode=SETGID | 0o700))
    assert stat.S_IMODE((tree / "folder").stat().st_mode) == SETGID | 0o700
    with refused(errno.EPERM):
        mode = SETUID | SETGID | 0o700
        asked.ask(SETATTR, asked.lookup(b"folder"), setattr_body(SET_MODE, mode=mode))


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO])
def test_a_guest_makes_no_devices_and_no_fifos(tree: Path, kind: int) -> None:
    with refused(errno.EPERM):
        client(tree, writable=True).ask(
            MKNOD, ROOT, struct.pack("<4I", kind | 0o666, 0x103, 0, 0) + b"new\0"
        )
    assert not (tree / "new").exists()


def test_a_guest_makes_sockets(tree: Path) -> None:
    body = struct.pack("<4I", stat.S_IFSOCK | 0o600, 0, 0, 0) + b"new\0"
    client(tree, writable=True).ask(MKNOD, ROOT, body)
    assert (tree / "new").is_socket()


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC])
def test_a_fifo_of_the_host_is_not_opened(tree: Path, flags: int) -> None:
    # A Linux guest opens what exists with OPEN; another one may send CREATE.
    os.mkfifo(tree / "fifo")
    reader = os.open(tree / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    asked = client(tree, writable=True)
    before = descriptors()
    try:
        with refused(errno.EACCES):
            asked.ask(CREATE, ROOT, struct.pack("<4I", flags, 0o644, 0, 0) + b"fifo\0")
        assert descriptors() == before
        with refused(errno.EACCES):
            asked.open(asked.lookup(b"fifo"), flags)
    finally:
        os.close(reader)


def test_a_file_that_exists_is_created_again(tree: Path) -> None:
    asked = client(tree, writable=True)
    body = struct.pack("<4I", os.O_RDWR, 0o600, 0, 0) + b"file\0"
    handle = struct.unpack_from("<Q", asked.ask(CREATE, ROOT, body), 128)[0]
    assert asked.read(handle) == b"content"
    body = struct.pack("<4I", os.O_RDWR | os.O_TRUNC, 0o600, 0, 0) + b"file\0"
    asked.ask(CREATE, ROOT, body)
    assert (tree / "file").read_bytes() == b""


def test_files_are_not_given_away_or_taken(tree: Path) -> None:
    asked = client(tree, writable=True)
    file, link = asked.lookup(b"file"), asked.lookup(b"link")
    for valid, ids in ((SET_UID, {"uid": 5}), (SET_GID, {"gid": 5})):
        for node in (file, link, ROOT):
            with refused(errno.EPERM):
                asked.ask(SETATTR, node, setattr_body(valid, **ids))
    # A file of another user than that of the server.
    if os.getuid() == 0:
        os.chown(tree / "file", 5, 5)
    else:
        asked.server._uid = asked.server._gid = 5
    owner = (tree / "file").stat().st_uid
    for valid in (SET_UID, SET_GID):
        with refused(errno.EPERM):
            asked.ask(SETATTR, file, setattr_body(valid))
    assert (tree / "file").stat().st_uid == owner


@pytest.mark.parametrize("name", [b"security.capability", b"user.a", b"trusted.a"])
def test_extended_attributes_can_not_be_set(tree: Path, name: bytes) -> None:
    with refused(errno.ENOSYS):
        asked = client(tree, writable=True)
        asked.ask(SETXATTR, asked.lookup(b"file"), struct.pack("<II", 4, 0) + name + b"\0abcd")
    assert os.listxattr(tree / "file") == []


@pytest.mark.parametrize("place", [b"proc", b"sys"])
def test_interfaces_of_the_hosts_kernel_are_out_of_reach(place: bytes) -> None:
    asked = client(Path("/"))
    node = asked.lookup(place)
    asked.ask(GETATTR, node, bytes(16))  # the guest mounts its own there
    for name in (b"self", b"kernel", b"nothing"):
        with refused(errno.EACCES):
            asked.lookup(name, node)
    with refused(errno.EACCES):
        asked.ask(OPENDIR, node, bytes(8))
    # Other file systems that are mounted can be read.
    assert asked.names(asked.lookup(b"shm", asked.lookup(b"dev"))) is not None


def test_a_single_interface_of_the_hosts_kernel_is_not_opened(tree: Path) -> None:
    """A file of /proc may be mounted over another file, as containers do it."""
    asked = client(tree)
    asked.server._by_key.clear()
    file = asked.lookup(b"file")
    asked.server._nodes[file].key = (Path("/proc/self/environ").stat().st_dev, 1)
    with refused(errno.EACCES):
        asked.open(file)


def test_a_link_to_a_file_outside_is_only_a_name(tree: Path) -> None:
    """A symbolic link may be made and moved about; what it names is not reached through it."""
    asked = client(tree, writable=True)
    asked.ask(SYMLINK, ROOT, b"new\0" + bytes(tree.parent / "secret") + b"\0")
    new = asked.lookup(b"new")
    with refused(errno.EACCES):
        asked.open(new, os.O_WRONLY)
    with refused(errno.EINVAL):
        asked.ask(SETATTR, new, setattr_body(1 << 3, size=0))
    with refused(errno.EOPNOTSUPP):
        asked.ask(SETATTR, new, setattr_body(SET_MODE, mode=0o777))
    # A hard link of it is one of the link.
    asked.ask(LINK, ROOT, struct.pack("<Q", new) + b"hard\0")
    assert (tree / "hard").is_symlink()
    for names in (b"new\0../moved\0", b"../secret\0moved\0", b"..\0moved\0", b"new\0..\0"):
        with refused(errno.EINVAL):
            asked.ask(RENAME, ROOT, struct.pack("<Q", ROOT) + names)
    # A folder's link is no folder to rename into.
    with refused(errno.ENOTDIR):
        asked.ask(RENAME, ROOT, struct.pack("<Q", asked.lookup(b"away")) + b"file\0moved\0")
    with refused(errno.EBADF):
        asked.ask(LINK, ROOT, struct.pack("<Q", 999) + b"other\0")
    assert (tree.parent / "secret").read_text() == "of nobody's business"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_forgotten_node_has_no_descriptor(tree: Path) -> None:
    asked = client(tree)
    before = descriptors()
    node = asked.lookup(b"file")
    assert asked.lookup(b"file") == node
    asked.ask(FORGET, node, struct.pack("<Q", 1))
    asked.ask(GETATTR, node, bytes(16))
    asked.ask(FORGET, node, struct.pack("<Q", 1))
    assert descriptors() == before
    with refused(errno.EBADF):
        asked.ask(GETATTR, node, bytes(16))
    asked.ask(FORGET, ROOT, struct.pack("<Q", 1 << 40))
    asked.ask(GETATTR, ROOT, bytes(16))


def test_open_folders_take_a_limited_amount_of_memory(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse, "_MOST_ENTRIES", 10)
    asked = client(tree)
    opened = [struct.unpack_from("<Q", asked.ask(OPENDIR, ROOT, bytes(8)))[0] for _ in range(2)]
    with refused(errno.ENFILE):
        asked.ask(OPENDIR, ROOT, bytes(8))
    asked.ask(RELEASEDIR, ROOT, struct.pack("<QIIQ", opened[0], 0, 0, 0))
    asked.ask(OPENDIR, ROOT, bytes(8))
    for number in range(20):
        (tree / f"many-{number}").touch()
    assert len(client(tree).names()) == 24  # a single folder may have more


def state(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        yield str(path), path.read_bytes() if stat.S_ISREG(mode) else bytes([mode >> 12])


NAMES = st.sampled_from(
    [b"folder", b"file", b"link", b"away", b"..", b"secret", b"../secret", b"x"]
)
BODIES = st.one_of(
    st.binary(max_size=120),
    st.builds(lambda *parts: b"".join(parts), st.sampled_from([b"", bytes(8), bytes(16)]), NAMES,
              st.just(b"\0"), NAMES, st.just(b"\0")),
    st.builds(lambda n, rest: struct.pack("<Q", n) + rest, st.integers(0, 6),
              st.binary(max_size=88)),
)  # fmt: skip
# No FALLOCATE, which could fill the disk.
REQUESTS = st.lists(st.tuples(st.integers(0, 42), st.integers(0, 6), BODIES), max_size=30)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=REQUESTS, writable=st.booleans())
def test_no_request_leaves_the_folder(
    tree: Path, requests: list[tuple[int, int, bytes]], writable: bool
) -> None:
    outside, before = tree.parent / "secret", dict(state(tree))
    asked = client(tree, writable)
    for name in (b"folder", b"file", b"link", b"away"):
        asked.lookup(name)
    replies = []
    for opcode, node, body in requests:
        header = struct.pack("<IIQQIIII", 40 + len(body), opcode, 1, node, 0, 0, 0, 0)
        buffer = bytearray(1 << 17)
        try:
            size = asked.server.answer(header + body, [memoryview(buffer)])
        except (ValueError, struct.error):  # such as a FORGET without a body
            continue
        replies.append(bytes(buffer[:size]))
    asked.server.close()
    assert outside.read_text() == "of nobody's business"
    assert sorted(path.name for path in tree.parent.iterdir()) == ["root", "secret"]
    assert not any(b"nobody's business" in reply for reply in replies)
    if not writable:
        assert dict(state(tree)) == before
