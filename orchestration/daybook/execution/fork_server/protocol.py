"""Exchange JSON messages with open files between fork server, jobs and kernels over a local socket."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any, Optional

_PR_SET_PDEATHSIG = 1
MAX_FILES = 250
"""Maximum number of open files in a message, one of which is its text. Linux allows 253."""


def send_message(connection: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message with open files. Its text goes through a pipe, so that its end needs no mark.

    A text that does not fit into the pipe's buffer is sent while the receiver reads it.
    """
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as text:
        try:
            socket.send_fds(connection, [b"\n"], [reader, *descriptors])
        finally:
            os.close(reader)
        text.write(json.dumps(message).encode())


def receive_message(connection: socket.socket) -> tuple[Optional[dict[str, Any]], list[int]]:
    """Return the next message and the descriptors of its open files; None if the sender has ended, also within a message."""
    _, descriptors, flags, _ = socket.recv_fds(connection, 1, MAX_FILES)
    if flags & socket.MSG_CTRUNC:
        raise OSError(f"a message has more than {MAX_FILES} open files, or this process cannot open more files")
    if not descriptors:
        return None, []
    with os.fdopen(descriptors[0], "rb") as text:
        try:
            return json.load(text), descriptors[1:]
        except ValueError:
            return None, descriptors[1:]


def die_with_parent(parent: int) -> None:
    """Let Linux kill this process when its parent ends.

    ``parent`` is the parent's pid from before the fork, because ``getppid`` may already return that of another process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
