"""Exchange JSON messages with open files between fork server, jobs and kernels over a local socket."""

from __future__ import annotations

import array
import ctypes
import json
import os
import signal
import socket
import struct
from collections.abc import Sequence
from typing import Any, Optional

_LENGTH = struct.Struct("!I")
_PR_SET_PDEATHSIG = 1


def send_message(connection: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message with open files."""
    data = json.dumps(message).encode()
    data = _LENGTH.pack(len(data)) + data
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    rest = data[connection.sendmsg([data], rights) :]
    # The receiver may have closed the connection after a complete message, so an empty rest is not sent.
    if rest:
        connection.sendall(rest)


def receive_message(connection: socket.socket, max_files: int = 16) -> tuple[Optional[dict[str, Any]], list[int]]:
    """Return the next message (None after the end) and the descriptors of its open files, at most ``max_files``."""
    descriptors = array.array("i")
    first, ancillary, flags, _ = connection.recvmsg(_LENGTH.size, socket.CMSG_SPACE(max_files * descriptors.itemsize))
    if flags & socket.MSG_CTRUNC:
        raise OSError(f"a message has more than {max_files} open files")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    head = _receive_exactly(connection, first, _LENGTH.size)
    if head is None:
        return None, []
    body = _receive_exactly(connection, b"", _LENGTH.unpack(head)[0])
    return (None if body is None else json.loads(body)), list(descriptors)


def _receive_exactly(connection: socket.socket, data: bytes, length: int) -> Optional[bytes]:
    """Return ``data`` extended to ``length`` bytes; None if the connection ends before."""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            return None
        data += more
    return data


def die_with_parent(parent: int) -> None:
    """Let Linux kill this process when its parent ends.

    ``parent`` is the parent's pid from before the fork, because ``getppid`` may already return that of another process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
