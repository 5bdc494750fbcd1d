"""Files that an operator names: read whole, within bounds of size and of time."""

import errno
import os
import stat
import time
from pathlib import Path
from select import select

PATIENCE = 5.0
"""Seconds that a pipe may take until its end, such as that of `check-config /dev/stdin`."""

_PIECE = 1 << 16


def read_file(path: Path, limit: int) -> bytes:
    """All bytes of a file, at most `limit`.

    Raises:
        OSError: it cannot be read, is larger, or is a pipe whose end does not come; `strerror`
            says which.
    """
    found, deadline = bytearray(), time.monotonic() + PATIENCE
    # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        while len(found) <= limit:
            if not select([file], [], [], max(0.0, deadline - time.monotonic()))[0]:
                message = f"a pipe that does not end within {PATIENCE:g} s"
                raise OSError(errno.ETIMEDOUT, message, str(path))
            piece = file.read(_PIECE)
            if not piece:
                return bytes(found)
            found += piece
    raise OSError(errno.EFBIG, f"more than {limit:_} bytes", str(path))


def check_file(path: Path) -> None:
    """Raise OSError unless `path` is a file, and one that can be read."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a file but a pipe or a device", str(path))
