"""twin_socket: commands of the server, and their replies, on a socket of their own."""

import errno
import os
import select
import socket
import struct

import pytest

from devices import Probe
from dma import edu_running, edu_start, probe_result, probe_start
from raw import (BAR0, BAR5, DMA_READ, DMA_WRITE, ERROR, MAX_DATA, REPLY, RESET, TIMEOUT, VERSION,
                 Client, capabilities, message, refused)
from test_dma_messages import answer_read

TWIN = capabilities(max_msg_fds=8, twin_socket={"supported": True})


@pytest.fixture
def c(probe, connect):
    c = connect(probe, version=TWIN)
    c.bus_master()
    c.map(0, 1 << 30)
    return c


def expect(c, command, address, count):
    m = c.twin.receive_command()
    assert m.command == command and struct.unpack("=QQ", m.body[:16]) == (address, count)
    assert m.size == 32 + (count if command == DMA_WRITE else 0) and not m.fds
    return m, m.body[16:]


def silent(client):
    return not client.commands and not select.select([client.socket], [], [], 0.05)[0]


# ---- Negotiation --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, {}, {"supported": False}, {"fd_index": 0}])
def test_only_a_client_that_offers_it_gets_one(probe, connect, value):
    data = capabilities() if value is None else capabilities(twin_socket=value)
    assert connect(probe, version=data).twin is None


def test_what_the_server_says(probe, connect):
    c = connect(probe, version=TWIN)
    assert c.server[2]["twin_socket"] == {"supported": True, "fd_index": 0}
    assert c.twin.socket.family == socket.AF_UNIX and c.twin.socket.type == socket.SOCK_STREAM


def test_a_device_that_sends_no_commands_makes_none(serve, connect):
    assert connect(serve("serial", "path=-", options=["--verbose"]), version=TWIN).twin is None


def test_a_version_that_wants_no_reply(probe, connect):
    c = connect(probe, version=None)
    c.send(VERSION, struct.pack("=HH", 0, 1) + TWIN, flags=0x10)
    c.bus_master()
    c.map(0, 1 << 30)
    probe_start(c, Probe.READ, 0, 0, 4)
    assert c.receive_command().command == DMA_READ  # where the client can see it


# ---- Transfers ----------------------------------------------------------------------------------


def test_both_ways(c):
    probe_start(c, Probe.READ, 0x1234, 50, 11)
    m, _ = expect(c, DMA_READ, 0x1234, 11)
    assert probe_result(c) == (0, 0)
    answer_read(c.twin, m, b"hello probe")
    while probe_result(c) != (1, 0):
        pass
    assert c.read(BAR5, 49, 13) == b"\0hello probe\0"
    probe_start(c, Probe.WRITE, 0xfedc, 50, 5)
    m, data = expect(c, DMA_WRITE, 0xfedc, 5)
    assert data == b"hello"
    c.twin.reply_to(m, m.body[:16])
    while probe_result(c) != (2, 0):
        pass
    assert c.is_silent() and silent(c.twin)


@pytest.mark.parametrize("body", [b"", b"x" * 12, b"x" * 16, b"x" * 100])
def test_replies_to_writes_of_any_length(c, body):
    for i in range(1, 4):
        probe_start(c, Probe.WRITE, 0x1000, 0, 300000)
        for at in range(0, 300000, MAX_DATA):
            m, _ = expect(c, DMA_WRITE, 0x1000 + at, min(MAX_DATA, 300000 - at))
            c.twin.reply_to(m, body)
        while probe_result(c) != (i, 0):
            pass


def ask_all(c, command, size, limit=MAX_DATA):
    """A transfer of so many bytes: the commands that come without an answer."""
    probe_start(c, command, 0x5000, 0, size)
    got = []
    for at in range(0, size, limit)[:8]:
        got.append(expect(c, command + DMA_READ - Probe.READ, 0x5000 + at, min(limit, size - at)))
    assert silent(c.twin)
    return got


def contents(c, size):
    return b"".join(c.read(BAR5, i, min(MAX_DATA, size - i)) for i in range(0, size, MAX_DATA))


@pytest.mark.parametrize("order", [range(8), range(7, -1, -1), [3, 1, 0, 2, 7, 6, 4, 5]])
def test_several_are_under_way_and_answered_in_any_order(c, order):
    data = os.urandom(8 * MAX_DATA)
    got = ask_all(c, Probe.READ, len(data))
    for i in order:
        answer_read(c.twin, got[i][0], data[i * MAX_DATA:(i + 1) * MAX_DATA])
    while probe_result(c) != (1, 0):
        pass
    assert contents(c, len(data)) == data


def test_a_large_transfer(c):
    data = os.urandom(1 << 20)
    probe_start(c, Probe.READ, 0, 0, 1 << 20)
    for at in range(0, 1 << 20, MAX_DATA):
        m, _ = expect(c, DMA_READ, at, MAX_DATA)
        answer_read(c.twin, m, data[at:at + MAX_DATA])
    while probe_result(c) != (1, 0):
        pass
    probe_start(c, Probe.WRITE, 0, 0, 1 << 20)
    for at in range(0, 1 << 20, MAX_DATA):
        m, written = expect(c, DMA_WRITE, at, MAX_DATA)
        assert written == data[at:at + MAX_DATA]
        c.twin.reply_to(m)
    while probe_result(c) != (2, 0):
        pass


def test_a_client_that_takes_little(probe, connect):
    c = connect(probe, version=capabilities(max_data_xfer_size=100, twin_socket={"supported": True}))
    c.bus_master()
    c.map(0, 1 << 30)
    got = ask_all(c, Probe.READ, 250, 100)
    assert len(got) == 3
    for i, (m, _) in enumerate(got):
        answer_read(c.twin, m, bytes([i + 1]) * (100 if i < 2 else 50))
    while probe_result(c) != (1, 0):
        pass
    assert c.read(BAR5, 0, 250) == b"\1" * 100 + b"\2" * 100 + b"\3" * 50


@pytest.mark.parametrize("piece", [1, 7, 16, 31, 33, 1000])
def test_replies_that_come_in_pieces(c, piece):
    data = os.urandom(300)
    for transfers in 1, 2:
        probe_start(c, Probe.READ, 0, 0, 300)
        m, _ = expect(c, DMA_READ, 0, 300)
        reply = message(DMA_READ, m.body + data, m.id, REPLY)
        for at in range(0, len(reply), piece):
            c.twin.send_bytes(reply[at:at + piece])
            c.get32(BAR0, Probe.ID)
        while probe_result(c) != (transfers, 0):
            pass
        assert c.read(BAR5, 0, 300) == data


def test_short_replies_in_one_go(c):
    """A header alone, several times, and the beginning of the next."""
    probe_start(c, Probe.WRITE, 0, 0, 5 * MAX_DATA)
    replies = b""
    for at in range(5):
        m, _ = expect(c, DMA_WRITE, at * MAX_DATA, MAX_DATA)
        replies += message(DMA_WRITE, b"", m.id, REPLY)
    c.twin.send_bytes(replies[:40])
    assert probe_result(c) == (0, 0)
    c.twin.send_bytes(replies[40:])
    while probe_result(c) != (1, 0):
        pass


def test_edu(edu, connect):
    c = connect(edu, version=TWIN)
    c.bus_master()
    c.map(0, 1 << 28)
    edu_start(c, 0x1000, 0x40000, 100, to_ram=False)
    m, _ = expect(c, DMA_READ, 0x1000, 100)
    answer_read(c.twin, m, bytes(range(100)))
    while edu_running(c):
        pass


# ---- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EFAULT, 0])
def test_one_piece_is_refused(c, error):
    """The device hears of it when nothing is under way any more."""
    got = ask_all(c, Probe.READ, 3 * MAX_DATA)
    c.twin.send_bytes(message(DMA_READ, b"", got[1][0].id, REPLY | ERROR, error))
    answer_read(c.twin, got[0][0], b"a" * MAX_DATA)
    assert probe_result(c) == (0, 0)
    answer_read(c.twin, got[2][0], b"a" * MAX_DATA)
    while probe_result(c) != (1, errno.EIO):
        pass


@pytest.mark.parametrize("body", [
    struct.pack("=QQ", 0x5001, 8) + b"x" * 8, struct.pack("=QQ", 0x5000, 4) + b"x" * 4,
    struct.pack("=QQ", 0x5000, 9) + b"x" * 9, struct.pack("=QQ", 0x5000, 8),
    struct.pack("=QQ", 0x5000, 8) + b"x" * 60000, b"", b"x", b"x" * 15])
def test_a_wrong_answer_fails_the_transfer(c, body):
    c.write(BAR5, 0, b"-" * 16)
    probe_start(c, Probe.READ, 0x5000, 0, 8)
    m, _ = expect(c, DMA_READ, 0x5000, 8)
    c.twin.send_bytes(message(DMA_READ, body, m.id, REPLY))
    while probe_result(c) != (1, errno.EIO):
        pass
    assert c.read(BAR5, 0, 16) == b"-" * 16
    probe_start(c, Probe.READ, 0x5000, 0, 8)  # and the stream is in step
    answer_read(c.twin, expect(c, DMA_READ, 0x5000, 8)[0], b"in order")
    while probe_result(c) != (2, 0):
        pass
    assert c.read(BAR5, 0, 8) == b"in order"


def test_replies_that_nobody_asked_for(c):
    probe_start(c, Probe.READ, 0, 0, 4)
    m, _ = expect(c, DMA_READ, 0, 4)
    for wrong in (message(DMA_READ, m.body + b"evil", (m.id + 1) & 0xffff, REPLY),
                  message(DMA_WRITE, b"", m.id, REPLY), message(RESET, b"x" * 5000, m.id, REPLY),
                  message(0xffff, b"", 1, REPLY | ERROR, 5)):
        c.twin.send_bytes(wrong)
    c.send_bytes(message(DMA_READ, m.body + b"evil", m.id, REPLY))  # not on this socket
    assert probe_result(c) == (0, 0)
    answer_read(c.twin, m, b"good")
    answer_read(c.twin, m, b"evil")
    while probe_result(c) != (1, 0):
        pass
    assert c.read(BAR5, 0, 4) == b"good"


@pytest.mark.parametrize("garbage", [b"\xff" * 16, message(RESET), message(VERSION, b"\0\0\0\0"),
                                     message(DMA_READ, b"", 1, REPLY, size=15),
                                     message(DMA_READ, b"", 1, REPLY, size=1 << 20)])
def test_what_is_no_reply_ends_the_connection(probe, connect, c, garbage):
    c.twin.send_bytes(garbage)
    assert c.is_closed() and c.twin.is_closed()
    assert connect(probe, version=TWIN).twin


def test_a_twin_that_is_closed_ends_the_connection(probe, connect, c):
    probe_start(c, Probe.READ, 0, 0, 4)
    c.twin.close()
    assert c.is_closed()
    c = connect(probe)
    assert probe_result(c) == (1, errno.EIO)


def test_descriptors_are_dropped(c, memory):
    probe_start(c, Probe.READ, 0, 0, 4)
    m, _ = expect(c, DMA_READ, 0, 4)
    c.twin.send_bytes(message(DMA_READ, m.body + b"good", m.id, REPLY), [memory(4096)])
    while probe_result(c) != (1, 0):
        pass


# ---- In order with the connection --------------------------------------------------------------


@pytest.mark.parametrize("what", ["reset", "unmap", "unmap all", "flr"])
def test_what_takes_memory_away_waits_for_the_answers(c, what):
    """A write that the client runs late must not hit what comes after."""
    probe_start(c, Probe.WRITE, 0x1000, 0, 2 * MAX_DATA)
    commands = [c.twin.receive_command() for _ in range(2)]
    if what == "reset":
        id = c.send(RESET)
    elif what == "flr":
        config = c.read(7, 0, 256)
        at = config[0x34]
        while config[at] != 0x10:
            at = config[at + 1]
        id = c.send(10, struct.pack("=QIIH", at + 8, 7, 2, 0x8000))
    else:
        flags, size = (2, 0) if what == "unmap all" else (0, 1 << 30)
        id = c.send(3, struct.pack("=IIQQ", 24, flags, 0, size))
    c.twin.reply_to(commands[0])
    assert not select.select([c.socket], [], [], 0.2)[0]
    c.twin.reply_to(commands[1])
    assert c.receive().id == id
    assert c.is_silent() and silent(c.twin)


def test_the_rest_is_not_asked_for_while_a_reset_waits(c):
    got = ask_all(c, Probe.READ, 12 * MAX_DATA)
    c.send(RESET)
    for m, _ in got:
        answer_read(c.twin, m, bytes(MAX_DATA))
    assert c.receive().command == RESET
    assert silent(c.twin)
    assert probe_result(c) == (0, 0)


def test_an_unmap_lets_the_rest_of_a_transfer_fail(c):
    got = ask_all(c, Probe.READ, 12 * MAX_DATA)
    c.send(3, struct.pack("=IIQQ", 24, 0, 0, 1 << 30))
    for m, _ in got:
        answer_read(c.twin, m, bytes(MAX_DATA))
    assert c.receive().command == 3
    while probe_result(c) != (1, errno.EFAULT):
        pass
    assert silent(c.twin)


def test_a_client_that_does_not_read_its_commands(c):
    """Registers are served all the same, and the rest comes when there is room."""
    data = os.urandom(1 << 20)
    for at in range(0, 1 << 20, MAX_DATA):
        c.write(BAR5, at, data[at:at + MAX_DATA])
    probe_start(c, Probe.WRITE, 0, 0, 1 << 20)
    for i in range(100):
        c.set32(BAR0, Probe.SCRATCH, i)
        assert c.get32(BAR0, Probe.SCRATCH) == i
    for at in range(0, 1 << 20, MAX_DATA):
        m, written = expect(c, DMA_WRITE, at, MAX_DATA)
        assert written == data[at:at + MAX_DATA]
        c.twin.reply_to(m)
    while probe_result(c) != (1, 0):
        pass


def test_the_next_client_gets_a_new_one(probe, connect, c):
    probe_start(c, Probe.READ, 0, 0, 4)
    m, _ = expect(c, DMA_READ, 0, 4)
    old = c.twin
    c.socket.close()
    assert old.is_closed()
    c = connect(probe, version=TWIN)
    c.bus_master()
    c.map(0, 1 << 30)
    probe_start(c, Probe.READ, 0, 0, 4)
    answer_read(c.twin, expect(c, DMA_READ, 0, 4)[0], b"mine")
    while probe_result(c)[0] != 2:
        pass
    assert c.read(BAR5, 0, 4) == b"mine"
