"""A FUSE server that gives a guest one folder of the host.

`FuseServer.answer` takes one request of the guest's FUSE client and writes the reply. `vhost` moves
requests and replies between the guest's memory and this module. The messages are those of the
kernel's include/uapi/linux/fuse.h, protocol version 7.31, which newer kernels still speak.

The guest is not trusted. Each node that it knows is a descriptor (O_PATH) that was opened within
the folder, without following symbolic links, and every name is looked up relative to such a
descriptor, so nothing outside of the folder can be reached. If the folder is not writable, requests
that write are refused by their opcode.

What is mounted in the folder is part of it, but for file systems whose files are interfaces of the
host's kernel: below /proc, the guest could read the environment and memory of this user's
processes. It sees the folders on which these are mounted, and nothing in them (EACCES).

Files of the user who runs this server belong to root in the guest, where the tests are root; files
that the tests make belong to that user on the host.

What the guest leaves in the folder gives nobody more rights: setuid and setgid bits, devices, FIFOs
and other owners are refused (EPERM), and extended attributes, such as file capabilities, are not
implemented. The host's kernel removes the setuid bit of a file that is written to, unless the
writer has CAP_FSETID; the `server` drops that.
"""

import enum
import errno
import os
import stat
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["FuseServer"]

_IN_HEADER = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
_OUT_HEADER = struct.Struct("<IiQ")  # length, error, unique
_ATTR = struct.Struct("<6Q10I")
# Node, generation, then for how long the name and the attributes are valid: seconds of each, and
# nanoseconds of each.
_ENTRY = struct.Struct("<4Q2I")
_READ = struct.Struct("<QQII")  # handle, offset, size, flags; WRITE begins with the same fields
_WRITE_BYTES = 40
_SETATTR = struct.Struct("<IIQQQQQQ8I")
_DIRENT = struct.Struct("<QQII")
_VERSION = (7, 31)
_ROOT = 1


class _Opcode(enum.IntEnum):
    """The requests that are answered (enum fuse_opcode)."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    RENAME2 = 45


# Flags of INIT (FUSE_ASYNC_READ and so on).
_ASYNC_READ, _ATOMIC_O_TRUNC, _BIG_WRITES = 1 << 0, 1 << 3, 1 << 5
_AUTO_INVAL_DATA, _PARALLEL_DIROPS, _MAX_PAGES = 1 << 12, 1 << 18, 1 << 22
_CACHE_SYMLINKS = 1 << 23
_INIT_FLAGS = (
    _ASYNC_READ
    | _ATOMIC_O_TRUNC
    | _BIG_WRITES
    | _AUTO_INVAL_DATA
    | _PARALLEL_DIROPS
    | _MAX_PAGES
    | _CACHE_SYMLINKS
)
_PAGES = 256
_PAGE_BYTES = 4096
# FOPEN_KEEP_CACHE: the guest keeps the pages of a file until its time or size changes.
_KEEP_CACHE = 1 << 1

# Bits of SETATTR (FATTR_MODE and so on).
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME = (1 << bit for bit in range(6))
_HANDLE, _ATIME_NOW, _MTIME_NOW = 1 << 6, 1 << 7, 1 << 8

# Of the flags of open(2), only those that have one value on x86_64 and arm64 are passed on.
_O_TRUNC = 0o1000


# How many entries are kept at once, for all folders that the guest has open: some 200 MB. A single
# folder may have more.
_MOST_ENTRIES = 1 << 20
# The types of file systems whose files are interfaces of the kernel (filesystems(5)).
_KERNEL_INTERFACES = {
    *("binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "efivarfs", "fusectl"),
    *("mqueue", "nsfs", "proc", "pstore", "resctrl", "rpc_pipefs", "securityfs", "selinuxfs"),
    *("smackfs", "sysfs", "tracefs"),
}


@dataclass
class _Node:
    """A file, folder or other inode that the guest knows by a number."""

    number: int
    fd: int
    key: tuple[int, int]
    """The device and the inode number on the host."""
    kind: int
    lookups: int = 0


@dataclass
class _Handle:
    """An open file (its descriptor) or folder (its entries: inode number, type, name)."""

    fd: int = -1
    entries: list[tuple[int, int, bytes]] = field(default_factory=list)


class FuseServer:
    """Serves a folder, which the guest may only change if it is `writable`.

    For `valid_seconds`, the guest may use what it was told of a file without asking again.
    """

    def __init__(self, path: Path, writable: bool, valid_seconds: float) -> None:
        self._writable = writable
        self._valid = (int(valid_seconds), int(valid_seconds % 1 * 1e9))
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        root = os.fstat(fd)
        # The root is never forgotten.
        self._root = _Node(_ROOT, fd, (root.st_dev, root.st_ino), stat.S_IFDIR, 1)
        self._nodes = {_ROOT: self._root}
        self._by_key = {self._root.key: self._root}
        self._handles: dict[int, _Handle] = {}
        self._next_node, self._next_handle = _ROOT + 1, 1
        self._entries = 0
        """How many entries the open folders have, in total."""
        self._interfaces: dict[int, bool] = {}
        """For each device number (`st_dev`) seen, whether it is that of a kernel's interface."""
        self._uid, self._gid = os.getuid(), os.getgid()
        reading: dict[int, Callable[[int, memoryview], bytes]] = {
            _Opcode.LOOKUP: self._lookup,
            _Opcode.GETATTR: self._getattr,
            _Opcode.READLINK: self._readlink,
            _Opcode.OPEN: self._open,
            _Opcode.STATFS: self._statfs,
            _Opcode.RELEASE: self._release,
            _Opcode.FSYNC: self._fsync,
            _Opcode.FLUSH: self._flush,
            _Opcode.INIT: self._init,
            _Opcode.OPENDIR: self._opendir,
            _Opcode.READDIR: self._readdir,
            _Opcode.RELEASEDIR: self._release,
            _Opcode.FSYNCDIR: self._flush,
            _Opcode.DESTROY: self._flush,
        }
        writing: dict[int, Callable[[int, memoryview], bytes]] = {
            _Opcode.SETATTR: self._setattr,
            _Opcode.SYMLINK: self._symlink,
            _Opcode.MKNOD: self._mknod,
            _Opcode.MKDIR: self._mkdir,
            _Opcode.UNLINK: self._unlink,
            _Opcode.RMDIR: self._rmdir,
            _Opcode.RENAME: self._rename,
            _Opcode.LINK: self._link,
            _Opcode.WRITE: self._write,
            _Opcode.CREATE: self._create,
            _Opcode.FALLOCATE: self._fallocate,
            _Opcode.RENAME2: self._rename2,
        }
        self._calls = reading | (writing if writable else {})
        self._refused = frozenset() if writable else frozenset(writing)

    def close(self) -> None:
        """Close all that the guest has open."""
        for fd in (
            *(node.fd for node in self._nodes.values()),
            *(handle.fd for handle in self._handles.values() if handle.fd >= 0),
        ):
            os.close(fd)

    def answer(self, request: bytes | bytearray, reply: Sequence[memoryview]) -> int:
        """Write the reply of a request into these buffers, and return its length in bytes.

        The length is 0 for a request that has no reply. ValueError if the request has no FUSE
        header, or if the reply does not fit.
        """
        if len(request) < _IN_HEADER.size:
            raise ValueError("shorter than a FUSE header")
        _, opcode, unique, node, *_ = _IN_HEADER.unpack_from(request)
        body = memoryview(request)[_IN_HEADER.size :]
        if opcode == _Opcode.FORGET:
            self._forget(node, struct.unpack_from("<Q", body)[0])
            return 0
        if opcode == _Opcode.BATCH_FORGET:
            for at in range(8, 8 + 16 * struct.unpack_from("<I", body)[0], 16):
                self._forget(*struct.unpack_from("<QQ", body, at))
            return 0
        if opcode == _Opcode.INTERRUPT:
            return 0
        error, content = 0, b""
        length = _OUT_HEADER.size
        try:
            if opcode == _Opcode.READ:
                length += self._read(body, _without_first(reply, _OUT_HEADER.size))
            elif opcode in self._calls:
                content = self._calls[opcode](node, body)
            else:
                error = errno.EROFS if opcode in self._refused else errno.ENOSYS
        except OSError as problem:
            error = problem.errno or errno.EIO
        except KeyError:  # a node or handle that the guest made up
            error = errno.EBADF
        except (struct.error, ValueError, OverflowError):
            error = errno.EINVAL
        header = _OUT_HEADER.pack(length + len(content), -error, unique)
        _put(reply, header + content)
        return length + len(content)

    # Nodes

    def _name(self, text: memoryview | bytes) -> bytes:
        name, nul, _ = bytes(text).partition(b"\0")
        if not nul or not name or b"/" in name or name in (b".", b".."):
            raise OSError(errno.EINVAL, "not a name")
        return name

    def _names(self, text: memoryview) -> tuple[bytes, bytes]:
        first, nul, rest = bytes(text).partition(b"\0")
        return self._name(first + nul), self._name(rest)

    def _folder(self, number: int) -> int:
        """Return the descriptor of a node that is a folder."""
        node = self._nodes[number]
        if node.kind != stat.S_IFDIR:
            raise OSError(errno.ENOTDIR, "not a folder")
        self._refuse_interface(node)
        return node.fd

    def _refuse_interface(self, node: _Node) -> None:
        device, _ = node.key
        if device not in self._interfaces:
            self._interfaces[device] = device in _interface_devices()
        if self._interfaces[device]:
            raise OSError(errno.EACCES, "an interface of the host's kernel")

    def _path(self, number: int) -> str:
        """Return a path that leads to this node, for calls that take no descriptor."""
        return f"/proc/self/fd/{self._nodes[number].fd}"

    def _entry(self, parent: int, name: bytes) -> bytes:
        """Look up a name, count that as one lookup of its node, and return a `fuse_entry_out`."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder(parent))
        try:
            found = os.fstat(fd)
            key = (found.st_dev, found.st_ino)
            node = self._by_key.get(key)
            if node is None:
                node = _Node(self._next_node, fd, key, stat.S_IFMT(found.st_mode))
                self._next_node += 1
                self._nodes[node.number] = self._by_key[key] = node
                fd = -1
        finally:
            if fd >= 0:
                os.close(fd)
        node.lookups += 1
        return self._entry_of(node, found)

    def _entry_of(self, node: _Node, found: os.stat_result) -> bytes:
        seconds, nanoseconds = self._valid
        head = _ENTRY.pack(node.number, 0, seconds, seconds, nanoseconds, nanoseconds)
        return head + self._attributes(node, found)

    def _attributes(self, node: _Node, found: os.stat_result) -> bytes:
        times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
        return _ATTR.pack(
            # Files of several file systems may have the same inode number.
            *(node.number, found.st_size, found.st_blocks),
            # A time before 1970 is negative; it is sent as the two's complement.
            *(at // 10**9 & 0xFFFFFFFFFFFFFFFF for at in times),
            *(at % 10**9 for at in times),
            *(found.st_mode, found.st_nlink),
            *(self._seen_uid(found), self._seen_gid(found)),
            *(_device(found.st_rdev), found.st_blksize, 0),
        )

    def _seen_uid(self, found: os.stat_result) -> int:
        return 0 if found.st_uid == self._uid else found.st_uid

    def _seen_gid(self, found: os.stat_result) -> int:
        return 0 if found.st_gid == self._gid else found.st_gid

    def _forget(self, number: int, lookups: int) -> None:
        node = self._nodes.get(number)
        if node is None or node is self._root:
            return
        node.lookups -= lookups
        if node.lookups <= 0:
            del self._nodes[number], self._by_key[node.key]
            os.close(node.fd)

    # Requests that read

    def _init(self, _: int, body: memoryview) -> bytes:
        major, _minor, readahead, flags = struct.unpack_from("<IIII", body)
        if major != _VERSION[0]:
            raise OSError(errno.EPROTO, "another major version of FUSE")
        return struct.pack(
            "<IIIIHHIIHHI7I",
            *(*_VERSION, readahead, flags & _INIT_FLAGS),
            *(64, 48),  # max_background, congestion_threshold
            *(_PAGES * _PAGE_BYTES, 1, _PAGES, 0, 0),
            *([0] * 7),
        )

    def _lookup(self, node: int, body: memoryview) -> bytes:
        try:
            return self._entry(node, self._name(body))
        except FileNotFoundError:
            # Node 0: the guest may remember that this name does not exist.
            seconds, nanoseconds = self._valid
            return _ENTRY.pack(0, 0, seconds, seconds, nanoseconds, nanoseconds) + bytes(_ATTR.size)

    def _getattr(self, number: int, _: memoryview) -> bytes:
        node = self._nodes[number]
        head = struct.pack("<QII", *self._valid, 0)
        return head + self._attributes(node, os.fstat(node.fd))

    def _readlink(self, node: int, _: memoryview) -> bytes:
        return os.readlink(b"", dir_fd=self._nodes[node].fd)

    def _statfs(self, node: int, _: memoryview) -> bytes:
        found = os.fstatvfs(self._nodes[node].fd)
        return struct.pack(
            "<5Q10I",
            *(found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree),
            *(found.f_bsize, found.f_namemax, found.f_frsize, 0, *([0] * 6)),
        )

    def _handle(self, handle: _Handle, flags: int) -> bytes:
        number = self._next_handle
        self._next_handle += 1
        self._handles[number] = handle
        return struct.pack("<QII", number, flags, 0)

    def _open(self, node: int, body: memoryview) -> bytes:
        asked = struct.unpack_from("<I", body)[0]
        flags = asked & (os.O_ACCMODE | _O_TRUNC)
        if flags != os.O_RDONLY and not self._writable:
            raise OSError(errno.EROFS, "read-only")
        # The guest's kernel opens devices and FIFOs itself, and must not reach those of the host.
        if self._nodes[node].kind != stat.S_IFREG:
            raise OSError(errno.EACCES, "not a regular file")
        self._refuse_interface(self._nodes[node])
        fd = os.open(self._path(node), flags | os.O_CLOEXEC | os.O_NONBLOCK)
        return self._handle(_Handle(fd), _KEEP_CACHE)

    def _read(self, body: memoryview, buffers: list[memoryview]) -> int:
        handle, offset, size, _ = _READ.unpack_from(body)
        return os.preadv(self._handles[handle].fd, _first(buffers, size), offset)

    def _release(self, _: int, body: memoryview) -> bytes:
        handle = self._handles.pop(struct.unpack_from("<Q", body)[0])
        self._entries -= len(handle.entries)
        if handle.fd >= 0:
            os.close(handle.fd)
        return b""

    def _flush(self, _: int, body: memoryview) -> bytes:
        return b""

    def _fsync(self, _: int, body: memoryview) -> bytes:
        if self._writable:
            os.fsync(self._handles[struct.unpack_from("<Q", body)[0]].fd)
        return b""

    def _opendir(self, node: int, _: memoryview) -> bytes:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        fd = os.open(".", flags, dir_fd=self._folder(node))
        try:
            with os.scandir(fd) as found:
                entries = [
                    (entry.inode(), _type(entry), os.fsencode(entry.name)) for entry in found
                ]
        finally:
            os.close(fd)
        if self._entries and self._entries + len(entries) > _MOST_ENTRIES:
            raise OSError(errno.ENFILE, "too many open folders")
        self._entries += len(entries)
        return self._handle(_Handle(entries=entries), 0)

    def _readdir(self, _: int, body: memoryview) -> bytes:
        handle, offset, size, _ = _READ.unpack_from(body)
        entries, content = self._handles[handle].entries, bytearray()
        for number, (inode, kind, name) in enumerate(entries[offset:], start=offset + 1):
            entry = _DIRENT.pack(inode, number, len(name), kind) + name
            entry += bytes(-len(entry) % 8)
            if len(content) + len(entry) > size:
                break
            content += entry
        return bytes(content)

    # Requests that write

    def _setattr(self, number: int, body: memoryview) -> bytes:
        valid, _, handle, size, _, *times, atime_part, mtime_part, _, mode, _, uid, gid, _ = (
            _SETATTR.unpack_from(body)
        )
        (atime, mtime, _) = times
        path, node = self._path(number), self._nodes[number]
        before = os.fstat(node.fd)
        # The guest can't give files away. The owner that it sees already changes nothing.
        for bit, id, seen in (
            (_UID, uid, self._seen_uid(before)),
            (_GID, gid, self._seen_gid(before)),
        ):
            if valid & bit and id != seen:
                raise OSError(errno.EPERM, "another owner")
        if valid & _MODE:
            if node.kind == stat.S_IFLNK:
                raise OSError(errno.EOPNOTSUPP, "a symbolic link")
            # A folder whose files the host gives to its group stays one.
            kept = before.st_mode & stat.S_ISGID if node.kind == stat.S_IFDIR else 0
            Path(path).chmod(_plain(mode, kept))
        if valid & _SIZE:
            if node.kind != stat.S_IFREG:
                raise OSError(errno.EINVAL, "not a regular file")
            open_file = self._handles.get(handle) if valid & _HANDLE else None
            os.truncate(open_file.fd if open_file else path, size)
        if valid & (_ATIME | _MTIME):
            now = time.time_ns()
            os.utime(
                path,
                ns=(
                    _time(valid, _ATIME, _ATIME_NOW, now, atime, atime_part, before.st_atime_ns),
                    _time(valid, _MTIME, _MTIME_NOW, now, mtime, mtime_part, before.st_mtime_ns),
                ),
            )
        return self._getattr(number, body)

    def _symlink(self, parent: int, body: memoryview) -> bytes:
        first, nul, rest = bytes(body).partition(b"\0")
        name = self._name(first + nul)
        os.symlink(rest.partition(b"\0")[0], name, dir_fd=self._folder(parent))
        return self._entry(parent, name)

    def _mknod(self, parent: int, body: memoryview) -> bytes:
        mode, *_ = struct.unpack_from("<4I", body)
        name = self._name(body[16:])
        kind = stat.S_IFMT(mode)
        # A program of the host that opens a FIFO to read it would wait for ever.
        if kind not in (stat.S_IFREG, stat.S_IFSOCK):
            raise OSError(errno.EPERM, "a device or a FIFO")
        os.mknod(name, kind | _plain(mode), dir_fd=self._folder(parent))
        return self._entry(parent, name)

    def _mkdir(self, parent: int, body: memoryview) -> bytes:
        name = self._name(body[8:])
        mode = struct.unpack_from("<I", body)[0]
        os.mkdir(name, _plain(mode), dir_fd=self._folder(parent))
        return self._entry(parent, name)

    def _unlink(self, parent: int, body: memoryview) -> bytes:
        os.unlink(self._name(body), dir_fd=self._folder(parent))
        return b""

    def _rmdir(self, parent: int, body: memoryview) -> bytes:
        os.rmdir(self._name(body), dir_fd=self._folder(parent))
        return b""

    def _rename(self, parent: int, body: memoryview) -> bytes:
        return self._move(parent, struct.unpack_from("<Q", body)[0], body[8:])

    def _rename2(self, parent: int, body: memoryview) -> bytes:
        target, flags, _ = struct.unpack_from("<QII", body)
        if flags:  # RENAME_NOREPLACE, RENAME_EXCHANGE
            raise OSError(errno.EINVAL, "flags of rename")
        return self._move(parent, target, body[16:])

    def _move(self, parent: int, target: int, names: memoryview) -> bytes:
        old, new = self._names(names)
        os.rename(old, new, src_dir_fd=self._folder(parent), dst_dir_fd=self._folder(target))
        return b""

    def _link(self, parent: int, body: memoryview) -> bytes:
        source, name = struct.unpack_from("<Q", body)[0], self._name(body[8:])
        os.link(self._path(source), name, dst_dir_fd=self._folder(parent), follow_symlinks=True)
        return self._entry(parent, name)

    def _write(self, _: int, body: memoryview) -> bytes:
        handle, offset, size, _ = _READ.unpack_from(body)
        data = body[_WRITE_BYTES : _WRITE_BYTES + size]
        written = os.pwrite(self._handles[handle].fd, data, offset)
        return struct.pack("<II", written, 0)

    def _create(self, parent: int, body: memoryview) -> bytes:
        asked, mode, _, _ = struct.unpack_from("<4I", body)
        name = self._name(body[16:])
        flags = asked & os.O_ACCMODE | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, _plain(mode), dir_fd=self._folder(parent))
        except FileExistsError:
            if asked & os.O_EXCL:
                raise
            # To open a device of the host may already have an effect, so look before.
            entry = self._entry(parent, name)
            [node] = struct.unpack_from("<Q", entry)
            try:
                return entry + self._open(node, body)
            except BaseException:
                self._forget(node, 1)
                raise
        try:
            entry = self._entry(parent, name)
        except BaseException:
            os.close(fd)
            raise
        return entry + self._handle(_Handle(fd), _KEEP_CACHE)

    def _fallocate(self, _: int, body: memoryview) -> bytes:
        handle, offset, length, mode, _ = struct.unpack_from("<QQQII", body)
        if mode:
            raise OSError(errno.EOPNOTSUPP, "a mode of fallocate")
        os.posix_fallocate(self._handles[handle].fd, offset, length)
        return b""


def _interface_devices() -> set[int]:
    """Return the device numbers of mounted file systems whose files are the kernel's interfaces."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        fields, _, rest = line.partition(" - ")  # proc_pid_mountinfo(5)
        if rest.split(" ", 1)[0] in _KERNEL_INTERFACES:
            major, _, minor = fields.split()[2].partition(":")
            found.add(os.makedev(int(major), int(minor)))
    return found


def _plain(mode: int, kept: int = 0) -> int:
    """Return the permission bits of a mode; EPERM if it sets setuid or setgid, but for `kept`."""
    if mode & (stat.S_ISUID | stat.S_ISGID) & ~kept:
        raise OSError(errno.EPERM, "a setuid or setgid bit")
    return stat.S_IMODE(mode)


def _time(valid: int, given: int, is_now: int, now: int, seconds: int, part: int, old: int) -> int:
    """Return the time that SETATTR sets, in nanoseconds: the current, the given or the old one."""
    if valid & is_now:
        return now
    return seconds * 10**9 + part if valid & given else old


def _device(number: int) -> int:
    # The layout of new_encode_dev() in the kernel's include/linux/kdev_t.h.
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def _type(entry: "os.DirEntry[str]") -> int:
    """Return the type of a folder's entry: DT_LNK, DT_DIR, DT_REG or DT_UNKNOWN of readdir(3)."""
    if entry.is_symlink():
        return stat.S_IFLNK >> 12
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR >> 12
    return stat.S_IFREG >> 12 if entry.is_file(follow_symlinks=False) else 0


def _without_first(buffers: Sequence[memoryview], size: int) -> list[memoryview]:
    """Return the buffers without their first bytes."""
    left = []
    for buffer in buffers:
        skipped = min(size, len(buffer))
        size -= skipped
        if skipped < len(buffer):
            left.append(buffer[skipped:])
    return left


def _first(buffers: Sequence[memoryview], size: int) -> list[memoryview]:
    """Return the buffers up to this many bytes."""
    chosen = []
    for buffer in buffers:
        if size <= 0:
            break
        chosen.append(buffer[:size])
        size -= len(chosen[-1])
    return chosen


def _put(buffers: Sequence[memoryview], content: bytes) -> None:
    """Write a content into buffers; ValueError if it does not fit."""
    if sum(map(len, buffers)) < len(content):
        raise ValueError(f"no space for a reply of {len(content)} bytes")
    at = 0
    for buffer in buffers:
        part = content[at : at + len(buffer)]
        buffer[: len(part)] = part
        at += len(part)
