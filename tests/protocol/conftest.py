"""Fixtures of the protocol tests: served devices, and raw clients of them."""

import os

import pytest

import raw
from devices import PROBE


@pytest.fixture
def connect():
    """connect(server, ...), or a path or socket, is a raw.Client that is closed with the test."""
    clients = []

    def start(where, **options):
        clients.append(raw.Client(getattr(where, "socket", where), **options))
        return clients[-1]

    yield start
    for client in clients:
        client.close()


@pytest.fixture
def edu(serve):
    return serve("edu")


@pytest.fixture
def probe(serve):
    return serve(str(PROBE))


@pytest.fixture
def memory():
    """memory(size) is a memory file, closed with the test."""
    fds = []

    def make(size):
        fds.append(raw.memory_file(size))
        return fds[-1]

    yield make
    for fd in fds:
        os.close(fd)
