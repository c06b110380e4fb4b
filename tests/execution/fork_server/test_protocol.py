"""Test messages with open files of any size, and the end of a connection."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from daybook.execution.fork_server.protocol import receive_message, send_message


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    here.settimeout(30)
    there.settimeout(30)
    with here, there:
        yield here, there


def test_messages_arrive_with_their_files(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    read, write = os.pipe()
    send_message(here, {"number": 1})
    send_message(here, {"number": 2}, [write])
    send_message(here, {"number": 3})
    os.close(write)
    told = [receive_message(there) for _ in range(3)]
    assert [message for message, _ in told] == [{"number": 1}, {"number": 2}, {"number": 3}]
    assert [len(descriptors) for _, descriptors in told] == [0, 1, 0]
    os.write(told[1][1][0], b"through")
    assert os.read(read, 10) == b"through"
    for each in (read, *told[1][1]):
        os.close(each)


def test_message_larger_than_socket_buffer(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    message = {"env": {"LARGE": "ä" * 3_000_000}}
    sender = threading.Thread(target=send_message, args=(here, message, [0]))
    sender.start()
    received, descriptors = receive_message(there)
    sender.join(30)
    assert received == message
    os.close(descriptors[0])


def test_end_of_connection_is_no_message(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    here.close()
    assert receive_message(there)[0] is None


def test_end_within_a_message_is_no_message(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    reader, writer = os.pipe()
    os.write(writer, b'{"env": {"HO')
    os.close(writer)
    socket.send_fds(here, [b"\n"], [reader])
    os.close(reader)
    assert receive_message(there) == (None, [])


def test_too_many_open_files_are_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    send_message(here, {}, [0] * 251)
    with pytest.raises(OSError, match="more than 250 open files"):
        receive_message(there)
