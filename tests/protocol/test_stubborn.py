"""Clients that are hard to serve: in odd pieces, or without end."""

import contextlib
import errno
import fcntl
import os
import signal
import socket
import struct
import termios
import time

import pytest

import raw
from devices import Edu, Probe
from raw import (BAR0, BAR5, DATA_EVENTFD, DMA_MAP, DMA_UNMAP, MAP_READ, MAP_WRITE, MSI, NO_REPLY,
                 REGION_WRITE, RESET, SET_IRQS, TRIGGER, Event, Refused, message, refused)

INPUT = raw.MAX_DATA + 2 * 4096  # bytes that the server looks at, at most
GUEST = 0x10000


def posted(size):
    """A write that is `size` bytes long, header and all."""
    data = bytes(size - 32)
    return message(REGION_WRITE, struct.pack("=QII", 0, BAR5, len(data)) + data, flags=NO_REPLY)


def wait_until_taken(c):
    """The server has taken all that was sent."""
    unread = 1
    while unread:
        unread, = struct.unpack("=i", fcntl.ioctl(c.socket, termios.TIOCOUTQ, bytes(4)))


# ---- Pieces -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [1, 16, 28, 47])
def test_descriptors_of_a_message_on_the_edge_of_the_buffer(probe, connect, memory, inside):
    """One look at the socket ends inside the message that has the descriptor."""
    c = connect(probe)
    fd = memory(4096)
    os.kill(probe.pid, signal.SIGSTOP)
    c.socket.setblocking(False)  # all of it has room in the socket
    c.send_bytes(posted(40000))
    c.send_bytes(posted(INPUT - inside - 40000))
    id = c.send(DMA_MAP, struct.pack("=IIQQQ", 32, MAP_READ | MAP_WRITE, 0, GUEST, 4096), [fd])
    os.kill(probe.pid, signal.SIGCONT)
    c.socket.settimeout(raw.TIMEOUT)
    assert c.check(c.receive(), DMA_MAP, id)
    c.bus_master()
    for register, value in ((Probe.ADDRESS_LOW, GUEST), (Probe.SIZE, 4), (Probe.COMMAND, Probe.WRITE)):
        c.set32(BAR0, Probe.CHANNEL + register, value)
    assert c.get32(BAR0, Probe.CHANNEL + Probe.DONE) == 1  # at once: there is no need to ask


def test_descriptors_with_the_second_piece(edu, connect):
    c = connect(edu)
    event = Event()
    body = struct.pack("=IIIII", 20, DATA_EVENTFD | TRIGGER, MSI, 0, 1)
    stream = message(SET_IRQS, body, 1)
    c.send_bytes(stream[:10])
    wait_until_taken(c)
    c.send_bytes(stream[10:20], [event])
    c.send_bytes(stream[20:])
    assert c.check(c.receive(), SET_IRQS, 1)
    c.set32(BAR0, Edu.RAISE, 1)
    assert event.count() == 1


def pin(c, fd, ms):
    c.bus_master()
    c.map(GUEST, 4096, fd)
    c.set32(BAR0, Probe.PIN_ADDRESS, GUEST)
    c.set32(BAR0, Probe.PIN_MS, ms)
    assert c.get32(BAR0, Probe.PIN_MS) == 1


@pytest.mark.parametrize("first", [1, 16, 39])
def test_a_message_that_came_in_two_has_to_wait(probe, connect, memory, first):
    c = connect(probe)
    pin(c, memory(4096), 300)
    unmap = message(DMA_UNMAP, struct.pack("=IIQQ", 24, 0, GUEST, 4096), 1)
    c.send_bytes(unmap[:first])
    wait_until_taken(c)
    c.send_bytes(unmap[first:])
    assert c.check(c.receive(), DMA_UNMAP, 1)
    assert c.get32(BAR0, Probe.PIN_MS) == 0


# ---- Without end --------------------------------------------------------------------------------


@contextlib.contextmanager
def flood(sock, data):
    """A process that sends the same bytes over and over, and never waits for room."""
    pid = os.fork()
    if pid == 0:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # as much as the system allows
        at = 0
        while True:
            try:
                at = (at + sock.send(data[at:at + 65536])) % len(data)
            except BlockingIOError:
                pass
            except OSError:
                os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


RESETS = 20000 * message(RESET, flags=NO_REPLY)  # much work for few bytes


def test_a_client_without_pause_does_not_keep_the_server_from_others(probe, connect):
    c = connect(probe)
    with flood(c.socket, RESETS):
        time.sleep(0.2)
        with refused(errno.EBUSY):
            connect(probe)


def test_nor_from_its_end(probe, connect):
    """SIGTERM is heard."""
    c = connect(probe)
    with flood(c.socket, RESETS):
        time.sleep(0.2)
        probe.stop()


def test_garbage_without_pause_before_any_version(probe, connect):
    c = connect(probe)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.connect(str(probe.socket))
    with flood(s, bytes(1 << 20)):
        for _ in range(1000):
            assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE
    s.close()


# ---- What a device answers ----------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EINPROGRESS, errno.EAGAIN])
def test_an_error_that_means_something_else_inside(probe, connect, error):
    c = connect(probe)
    with pytest.raises(Refused):
        c.set32(BAR0, Probe.FAIL, error)
    assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE


def test_a_device_that_fails_with_no_error_at_all(probe, connect):
    c = connect(probe)
    with refused(errno.EIO):
        c.set32(BAR0, Probe.FAIL, -5)
    assert c.get32(BAR0, Probe.SCRATCH) == 0


@pytest.mark.parametrize("address, size", [(2**64 - 4096, 8192), (2**64 - 4096, 4096), (2**64 - 1, 2)])
def test_dma_at_the_end_of_the_address_space(probe, connect, address, size):
    """The address is the guest's: the device hears of it as of any other that is not mapped."""
    c = connect(probe)
    c.bus_master()
    for register, value in ((Probe.ADDRESS_LOW, address & 0xffffffff), (Probe.ADDRESS_HIGH, address >> 32),
                            (Probe.SIZE, size), (Probe.COMMAND, Probe.READ)):
        c.set32(BAR0, Probe.CHANNEL + register, value)
    assert c.get32(BAR0, Probe.CHANNEL + Probe.COMMAND) == 0
    assert c.get32(BAR0, Probe.CHANNEL + Probe.DONE) == 1
    assert c.get32(BAR0, Probe.CHANNEL + Probe.RESULT) == errno.EFAULT


def test_dma_right_below_the_end_of_the_address_space(probe, connect, memory):
    c = connect(probe)
    c.bus_master()
    c.map(2**64 - 4096, 4096, memory(4096))
    for register, value in ((Probe.ADDRESS_LOW, 0xfffff000), (Probe.ADDRESS_HIGH, 0xffffffff),
                            (Probe.SIZE, 4096), (Probe.COMMAND, Probe.WRITE)):
        c.set32(BAR0, Probe.CHANNEL + register, value)
    assert c.get32(BAR0, Probe.CHANNEL + Probe.DONE) == 1
    assert c.get32(BAR0, Probe.CHANNEL + Probe.RESULT) == 0
