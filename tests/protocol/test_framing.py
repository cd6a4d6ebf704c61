"""A stream of messages: cut anywhere, glued together, in both directions."""

import errno
import os
import select
import signal
import socket
import struct

import pytest

import raw
from devices import Edu, Probe
from program import OUTBOARD, child
from raw import (BAR0, BAR5, CONFIG, DATA_EVENTFD, ERROR, GET_INFO, GET_IRQ_INFO, HEADER, MAX_DATA,
                 MSI, NO_REPLY, REGION_READ, REGION_WRITE, REPLY, RESET, SET_IRQS, TRIGGER, Event,
                 message, refused)

LARGEST = MAX_DATA + 4096  # a message; nothing longer is taken


def read_message(id, region=BAR0, offset=0, n=4):
    return message(REGION_READ, struct.pack("=QII", offset, region, n), id)


def write_message(id, region, offset, data, flags=0):
    body = struct.pack("=QII", offset, region, len(data)) + data
    return message(REGION_WRITE, body, id, flags)


def small_send_buffer(client):
    """Large messages leave in many pieces, each when the server has taken some of the last."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)


def pattern(n):
    return bytes((i * 7 + i // 251) & 0xff for i in range(n))


def test_byte_by_byte(edu, connect):
    c = connect(edu)
    for byte in write_message(7, BAR0, Edu.LIVENESS, b"\1\2\3\4"):
        c.send_bytes(bytes([byte]))
    c.check(c.receive(), REGION_WRITE, 7)
    assert c.get32(BAR0, Edu.LIVENESS) == 0xffffffff ^ 0x04030201


@pytest.mark.parametrize("first", range(1, 36))
def test_cut_at_every_byte(edu, connect, first):
    """Whole message, its second half with the first half of the next, and so on."""
    c = connect(edu)
    stream = (write_message(1, BAR0, Edu.LIVENESS, struct.pack("=I", first)) + read_message(2) +
              read_message(3, offset=Edu.LIVENESS))
    c.send_bytes(stream[:first])
    assert not select.select([c.socket], [], [], 0)[0]
    c.send_bytes(stream[first:first + 36])
    c.check(c.receive(), REGION_WRITE, 1)
    c.send_bytes(stream[first + 36:])
    assert c.check(c.receive(), REGION_READ, 2).body[16:] == b"\xed\0\0\1"
    assert c.check(c.receive(), REGION_READ, 3).body[16:] == struct.pack("=I", ~first & 0xffffffff)


def test_several_in_one_write(edu, connect):
    c = connect(edu)
    c.send_bytes(b"".join(read_message(i) for i in range(50)))
    for i in range(50):
        assert c.check(c.receive(), REGION_READ, i).body[16:] == b"\xed\0\0\1"


def test_hundreds_under_way(edu, connect):
    """Sent one by one, without reading: more replies than fit the server's output at once."""
    c = connect(edu)
    for i in range(400):
        c.send(REGION_READ, struct.pack("=QII", 0, CONFIG, 64), id=i)
    for i in range(400):
        assert c.check(c.receive(), REGION_READ, i).body[16:20] == b"\x34\x12\xe8\x11"


@pytest.mark.parametrize("size", [4096, 4097, 30000, 65535, 65536])
def test_large_writes_and_reads(probe, connect, size):
    c = connect(probe)
    data = pattern(size)
    c.write(BAR5, 5, data)
    assert c.read(BAR5, 5, size) == data


def test_large_writes_through_a_small_buffer(probe, connect):
    c = connect(probe)
    small_send_buffer(c)
    data = pattern(MAX_DATA)
    for at in (0, 1 << 16, 3 << 16):
        c.write(BAR5, at, data)
        assert c.read(BAR5, at, MAX_DATA) == data


def test_large_messages_one_behind_the_other(probe, connect):
    """Each is longer than what is left in the server's buffer when it begins."""
    c = connect(probe)
    sizes = [65536, 1, 65535, 4096, 65000, 8, 65536]
    for id, size in enumerate(sizes):
        c.send_bytes(write_message(id, BAR5, id << 17, pattern(size)))
    for id, size in enumerate(sizes):
        c.check(c.receive(), REGION_WRITE, id)
    for id, size in enumerate(sizes):
        assert c.read(BAR5, id << 17, size) == pattern(size)


@pytest.mark.parametrize("n", [1, 3, 17, 4095])
def test_a_large_message_in_equal_pieces(probe, connect, n):
    c = connect(probe)
    data = pattern(20000)
    stream = write_message(1, BAR5, 0, data) + read_message(2, BAR5, 0, 20000)
    for at in range(0, len(stream), n):
        c.send_bytes(stream[at:at + n])
    c.check(c.receive(), REGION_WRITE, 1)
    assert c.check(c.receive(), REGION_READ, 2).body[16:] == data


def test_one_byte_too_much_data(probe, connect):
    c = connect(probe)
    data = bytes(MAX_DATA + 1)
    with refused(errno.EINVAL):
        c.write(BAR5, 0, data)
    with refused(errno.EINVAL):
        c.read(BAR5, 0, MAX_DATA + 1)
    assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE


def test_the_longest_message_is_answered(probe, connect):
    c = connect(probe)
    with refused(errno.EINVAL):
        c.call(GET_INFO, bytes(LARGEST - 16))
    assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE


def fill_output(c):
    """Asks without reading until the server has more to say than the socket takes. How many?"""
    c.socket.setblocking(False)
    asked, ask = 0, b""
    try:
        while asked < 100000:
            ask = read_message(asked & 0xffff, BAR5, 0, 8192)
            if c.socket.send(ask) < len(ask):
                raise AssertionError("half a message went: send the rest, if this ever happens")
            asked += 1
    except BlockingIOError:
        pass
    c.socket.settimeout(20)
    assert asked < 100000, "the server takes questions without end, and keeps all the answers"
    return asked


def test_a_client_that_reads_late_loses_nothing(probe, connect):
    c = connect(probe)
    c.write(BAR5, 0, pattern(8192))
    asked = fill_output(c)
    assert asked > 20
    for i in range(asked):
        assert c.check(c.receive(), REGION_READ, i & 0xffff).body[16:] == pattern(8192)
    assert c.is_silent()


def test_a_client_that_never_reads_can_go(probe, connect):
    c = connect(probe)
    fill_output(c)
    c.close()
    assert connect(probe).get32(BAR0, Probe.ID) == Probe.ID_VALUE


def test_a_client_that_never_reads_does_not_stop_the_device(probe, connect):
    """Its timers go on, and its interrupts reach the client."""
    c = connect(probe)
    event = Event()
    c.set_irqs(MSI, DATA_EVENTFD | TRIGGER, fds=[event])
    c.set32(BAR0, Probe.TIMER, 300)
    asked = fill_output(c)
    assert event.wait() == 1
    for i in range(asked):
        assert c.receive().id == i & 0xffff
    assert c.get32(BAR0, Probe.TICKS) == 1


def test_replies_through_a_small_buffer(connect):
    """The server's own buffer is tiny: each reply leaves in many pieces."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    fd = theirs.fileno()
    server = child([OUTBOARD, "serve", "edu", f"--fd={fd}"], pass_fds=[fd])
    theirs.close()
    c = connect(ours)
    c.send_bytes(b"".join(read_message(i, CONFIG, 0, 256) for i in range(200)))
    for i in range(200):
        assert c.check(c.receive(), REGION_READ, i).body[16:20] == b"\x34\x12\xe8\x11"
    c.close()
    assert server.wait(timeout=20) == 0


# ---- Headers ------------------------------------------------------------------------------------


def test_ids_are_echoed_in_order(edu, connect):
    c = connect(edu)
    ids = [0, 0xffff, 1, 1, 1, 0x8000, 0, 42]
    c.send_bytes(b"".join(read_message(id) for id in ids))
    assert [c.receive().id for _ in ids] == ids


def test_a_client_whose_ids_are_always_0(edu, connect):
    c = connect(edu)
    for value in range(10):
        c.call(REGION_WRITE, struct.pack("=QIII", Edu.LIVENESS, BAR0, 4, value), id=0)
        body = c.call(REGION_READ, struct.pack("=QII", Edu.LIVENESS, BAR0, 4), id=0).body
        assert body[16:] == struct.pack("=I", ~value & 0xffffffff)


def test_no_reply_means_none(edu, connect):
    c = connect(edu)
    for value in range(100):
        c.post(BAR0, Edu.LIVENESS, struct.pack("=I", value))
    assert c.get32(BAR0, Edu.LIVENESS) == 0xffffffff ^ 99
    assert c.is_silent()


@pytest.mark.parametrize("command, body", [
    (REGION_READ, struct.pack("=QII", 0, BAR0, 4)),
    (REGION_READ, struct.pack("=QII", 1 << 40, BAR0, 4)),
    (REGION_WRITE, struct.pack("=QII", 0, BAR0, 400)),
    (GET_INFO, b""), (RESET, b""), (99, b""), (0, b"")])
def test_no_reply_holds_for_every_command_and_error(edu, connect, command, body):
    c = connect(edu)
    c.send(command, body, flags=NO_REPLY)
    assert c.is_silent()


def test_error_in_a_command_means_nothing(edu, connect):
    """Bit 5 and the error field belong to replies."""
    c = connect(edu)
    c.send(GET_IRQ_INFO, struct.pack("=IIII", 16, 0, 0, 0), id=5, flags=ERROR, error=errno.EIO)
    assert c.check(c.receive(), GET_IRQ_INFO, 5)


def test_an_error_reply_is_only_a_header(edu, connect):
    c = connect(edu)
    c.send(REGION_READ, struct.pack("=QII", 1 << 30, BAR0, 4), id=0x1234)
    bytes_, fds = c.receive_bytes(16)
    assert HEADER.unpack(bytes_) == (0x1234, REGION_READ, 16, REPLY | ERROR, errno.EINVAL)
    assert c.is_silent() and not fds


def broken(size, flags=0):
    return HEADER.pack(1, GET_INFO, size, flags, 0)


@pytest.mark.parametrize("data", [
    broken(0), broken(15), broken(LARGEST + 1), broken(0xffffffff), broken(0x80000000),
    broken(16, 2), broken(16, 0xf), b"\0" * 16, b"\xff" * 16, b"GET / HTTP/1.1\r\n\r\n",
], ids=lambda data: data[:16].hex())
def test_no_message_ends_the_connection(edu, connect, data):
    c = connect(edu)
    c.set32(BAR0, Edu.LIVENESS, 0)
    c.send_bytes(data)
    assert c.is_closed()
    assert edu.log.read_text().count("\n") == 1
    assert connect(edu).get32(BAR0, Edu.LIVENESS) == 0xffffffff


def test_replies_to_what_came_before_no_message(edu, connect):
    c = connect(edu)
    c.send_bytes(read_message(1) + read_message(2) + broken(3))
    assert c.receive().id == 1 and c.receive().id == 2
    assert c.is_closed()


@pytest.mark.parametrize("first", [1, 15, 16, 17, 31, 35])
def test_vanishing_in_the_middle_of_a_message(edu, connect, first):
    c = connect(edu)
    c.send_bytes(write_message(1, BAR0, Edu.LIVENESS, b"\0\0\0\0")[:first])
    c.close()
    c = connect(edu)
    assert c.get32(BAR0, Edu.LIVENESS) == 0
    assert edu.log.read_text().count("in the middle of a message") == 1


def test_vanishing_in_the_middle_of_a_long_message(probe, connect):
    c = connect(probe)
    c.write(BAR5, 0, b"here")
    c.send_bytes(write_message(1, BAR5, 0, bytes(60000))[:50000])
    c.close()
    assert connect(probe).read(BAR5, 0, 4) == b"here"


def test_vanishing_right_after_a_message(edu, connect):
    """The message and the end of the stream are there at once when the server looks."""
    for posted in (True, False):
        c = raw.Client(edu.socket)
        os.kill(edu.pid, signal.SIGSTOP)
        c.send_bytes(write_message(1, BAR0, Edu.LIVENESS, struct.pack("=I", posted),
                                   NO_REPLY if posted else 0))
        c.close()
        os.kill(edu.pid, signal.SIGCONT)
        with raw.Client(edu.socket) as c:
            assert c.get32(BAR0, Edu.LIVENESS) == 0xffffffff ^ posted


def test_half_closed_is_closed(edu, connect):
    """Who shuts down its sending side gets the replies that are due, and then the end."""
    c = connect(edu)
    os.kill(edu.pid, signal.SIGSTOP)
    c.send_bytes(read_message(1) + read_message(2))
    c.socket.shutdown(socket.SHUT_WR)
    os.kill(edu.pid, signal.SIGCONT)
    assert c.receive().id == 1 and c.receive().id == 2
    assert c.is_closed()
    connect(edu)


@pytest.mark.parametrize("first", [1, 16, 30, 35])
def test_descriptors_stay_with_a_message_that_comes_in_two(edu, connect, first):
    """The rest arrives glued to the next message, which has no descriptor."""
    c = connect(edu)
    event = Event()
    body = struct.pack("=IIIII", 20, DATA_EVENTFD | TRIGGER, MSI, 0, 1)
    stream = message(SET_IRQS, body, 1) + read_message(2)
    c.send_bytes(stream[:first], [event])
    c.send_bytes(stream[first:])
    assert c.check(c.receive(), SET_IRQS, 1) and c.check(c.receive(), REGION_READ, 2)
    c.set32(BAR0, Edu.RAISE, 1)
    assert event.count() == 1


def test_descriptors_in_the_middle_of_a_message(edu, connect):
    c = connect(edu)
    event = Event()
    stream = message(SET_IRQS, struct.pack("=IIIII", 20, DATA_EVENTFD | TRIGGER, MSI, 0, 1), 1)
    c.send_bytes(stream[:10], [event])
    c.send_bytes(stream[10:20], [event])
    assert c.is_closed()
    connect(edu)
