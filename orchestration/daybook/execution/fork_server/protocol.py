"""What host, jobs and kernels say to each other: one JSON object with open files, over a local socket."""

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
    """Send a message, and let the receiver have these open files too."""
    data = json.dumps(message).encode()
    data = _LENGTH.pack(len(data)) + data
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    rest = data[connection.sendmsg([data], rights) :]
    # Nothing more to say is not said: the receiver may be content, and have hung up.
    if rest:
        connection.sendall(rest)


def receive_message(connection: socket.socket, most: int = 16) -> tuple[Optional[dict[str, Any]], list[int]]:
    """The next message and its open files, at most ``most``; None once the other end is closed."""
    descriptors = array.array("i")
    first, ancillary, flags, _ = connection.recvmsg(_LENGTH.size, socket.CMSG_SPACE(most * descriptors.itemsize))
    if flags & socket.MSG_CTRUNC:
        raise OSError(f"a message came with more than {most} open files")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    head = _receive_exactly(connection, first, _LENGTH.size)
    if head is None:
        return None, []
    body = _receive_exactly(connection, b"", _LENGTH.unpack(head)[0])
    return (None if body is None else json.loads(body)), list(descriptors)


def _receive_exactly(connection: socket.socket, begun: bytes, length: int) -> Optional[bytes]:
    while len(begun) < length:
        more = connection.recv(length - len(begun))
        if not more:
            return None
        begun += more
    return begun


def die_with_parent(parent: int) -> None:
    """Have Linux kill this process when the one that forked it, ``parent``, is gone, however that ended.

    Its pid is what it was before the fork: who asks here may already be told that of whoever takes in orphans.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
