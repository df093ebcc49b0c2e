"""The system's interface that tells what happens in folders: ``inotify(7)``, of Linux."""

from __future__ import annotations

import os
import struct
import weakref
from collections.abc import Callable, Iterator
from typing import Final

__all__ = [
    "ATTRIB",
    "CLOSE_WRITE",
    "CREATE",
    "DELETE",
    "DELETE_SELF",
    "DONT_FOLLOW",
    "IGNORED",
    "MODIFY",
    "MOVED_FROM",
    "MOVED_TO",
    "MOVE_SELF",
    "ONLYDIR",
    "OVERFLOW",
    "UNMOUNT",
    "Inotify",
]

# Their names and values are those of <sys/inotify.h>, without IN_.
MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
DELETE_SELF, MOVE_SELF = 0x400, 0x800
UNMOUNT, OVERFLOW, IGNORED = 0x2000, 0x4000, 0x8000
ONLYDIR, DONT_FOLLOW = 0x0100_0000, 0x0200_0000

_EVENT: Final = struct.Struct("iIII")
_COUNT: Final = struct.Struct("i")
_READ_BYTES: Final = 1 << 18


class Inotify:
    """One queue of the system's, closed when it is collected.

    Raises:
        OSError: The system's limit of queues or of open files is reached.
        AttributeError: The C library does not have it.
    """

    def __init__(self) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        self._errno = ctypes.get_errno
        self._add = libc.inotify_add_watch
        self._add.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._remove = libc.inotify_rm_watch
        self._remove.argtypes = (ctypes.c_int, ctypes.c_int)
        self.fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(self._errno(), os.strerror(self._errno()))
        # A forked child that closes its copy takes nothing from its parent.
        self.close: Callable[[], object] = weakref.finalize(self, os.close, self.fd)

    def add(self, path: str, mask: int) -> int:
        """Watch what is at this path; a folder that is watched already keeps its watch."""
        watch: int = self._add(self.fd, os.fsencode(path), mask)
        if watch < 0:
            raise OSError(self._errno(), os.strerror(self._errno()), path)
        return watch

    def remove(self, watch: int) -> None:
        """Let go of a watch; one that the system let go of by itself is no error."""
        self._remove(self.fd, watch)

    def pending(self) -> int:
        """How many bytes of events wait."""
        import fcntl
        import termios

        found = fcntl.ioctl(self.fd, termios.FIONREAD, bytes(_COUNT.size))
        size: int = _COUNT.unpack(found)[0]
        return size

    def events(self) -> Iterator[tuple[int, int, str]]:
        """What happened before the call, in order: the watch, what, and the entry's name.

        Whoever writes without end does not keep the reader here.
        """
        left = self.pending()
        while left > 0:
            data = os.read(self.fd, _READ_BYTES)
            left -= len(data)
            position = 0
            while position < len(data):
                watch, mask, _, size = _EVENT.unpack_from(data, position)
                position += _EVENT.size + size
                name = data[position - size : position].rstrip(b"\0")
                yield watch, mask, os.fsdecode(name)
