"""DMA_READ and DMA_WRITE: memory without a descriptor, which the client reads and writes for us."""

import errno
import os
import struct

import pytest

from devices import Edu, Probe
from dma import edu_running, edu_start, probe_dma, probe_learn, probe_result, probe_start
from raw import (BAR0, BAR5, CONFIG, DATA_EVENTFD, DMA_READ, DMA_WRITE, ERROR, MAP_READ,
                 MAP_WRITE, MAX_DATA, MSI, REGION_READ, REPLY, TRIGGER, Event, capabilities,
                 message)

PAGE = 4096


@pytest.fixture
def c(probe, connect):
    """A client of probe with a GiB without a descriptor."""
    c = connect(probe)
    c.bus_master()
    c.map(0, 1 << 30)
    probe_learn(c)
    return c


def expect(c, command, address, count):
    """The server's next command. Returns it, and the data of a write."""
    m = c.receive_command()
    assert m.command == command and struct.unpack("=QQ", m.body[:16]) == (address, count)
    assert m.size == 32 + (count if command == DMA_WRITE else 0) and not m.fds
    return m, m.body[16:]


def answer_read(c, m, data, address=None):
    asked, count = struct.unpack("=QQ", m.body[:16])
    c.reply_to(m, struct.pack("=QQ", asked if address is None else address, len(data)) + data)


def test_read(c):
    probe_start(c, Probe.READ, 0x1234, 50, 11)
    m, _ = expect(c, DMA_READ, 0x1234, 11)
    assert probe_result(c) == (0, 0)  # the device waits, and answers
    answer_read(c, m, b"hello probe")
    assert probe_result(c) == (1, 0)
    assert c.read(BAR5, 49, 13) == b"\0hello probe\0"


@pytest.mark.parametrize("body", [
    lambda m: b"",                                # QEMU: a bare header
    lambda m: m.body[:8] + struct.pack("=I", 9),  # the text: a count of 4 bytes
    lambda m: m.body[:16]])                       # libvfio-user: address and count
def test_write(c, body):
    c.write(BAR5, 3, b"bye probe")
    probe_start(c, Probe.WRITE, 0xfedc, 3, 9)
    m, data = expect(c, DMA_WRITE, 0xfedc, 9)
    assert data == b"bye probe"
    c.reply_to(m, body(m))
    assert probe_result(c) == (1, 0)
    assert c.is_silent()


def test_edu_both_ways(edu, connect):
    c = connect(edu)
    c.bus_master()
    c.map(0, 1 << 28)
    event = Event()
    c.set_irqs(MSI, DATA_EVENTFD | TRIGGER, fds=[event])
    edu_start(c, 0x1000, Edu.BUFFER, 100, to_ram=False, irq=True)
    m, _ = expect(c, DMA_READ, 0x1000, 100)
    assert edu_running(c) and event.count() == 0
    answer_read(c, m, bytes(range(100)))
    assert event.wait() == 1 and not edu_running(c)
    edu_start(c, Edu.BUFFER + 10, 0x2000, 20, to_ram=True)
    m, data = expect(c, DMA_WRITE, 0x2000, 20)
    assert data == bytes(range(10, 30))
    c.reply_to(m)
    assert not edu_running(c)


@pytest.mark.parametrize("limit", [1, 100, 4096, 65536, 1 << 20])
@pytest.mark.parametrize("command", [Probe.READ, Probe.WRITE])
def test_pieces_of_what_the_client_takes(probe, connect, limit, command):
    c = connect(probe, version=capabilities(max_data_xfer_size=limit))
    c.bus_master()
    c.map(0, 1 << 30)
    probe_learn(c)
    size = min(3 * limit + 7, 200000)
    data = os.urandom(size)
    for at in range(0, size, MAX_DATA):
        c.write(BAR5, at, data[at:at + MAX_DATA] if command == Probe.WRITE else b"")
    probe_start(c, command, 0x5000, 0, size)
    at = 0
    while at < size:
        n = min(limit, MAX_DATA, size - at)
        m, written = expect(c, command + DMA_READ - Probe.READ, 0x5000 + at, n)
        assert c.is_silent()  # one at a time
        if command == Probe.READ:
            answer_read(c, m, data[at:at + n])
        else:
            assert written == data[at:at + n]
            c.reply_to(m)
        at += n
    assert probe_result(c) == (1, 0)
    if command == Probe.READ:
        assert b"".join(c.read(BAR5, i, min(MAX_DATA, size - i))
                        for i in range(0, size, MAX_DATA)) == data


@pytest.mark.parametrize("error", [errno.EFAULT, errno.EINVAL, 0, 5000, 0xffffffff])
@pytest.mark.parametrize("command", [Probe.READ, Probe.WRITE])
def test_an_error_answer_fails_the_transfer(c, command, error):
    probe_start(c, command, 0, 0, 8)
    m = c.receive_command()
    c.send_bytes(message(m.command, b"", m.id, REPLY | ERROR, error))
    assert probe_result(c) == (1, errno.EIO)
    probe_start(c, command, 0, 0, 8)  # the next may do better
    m = c.receive_command()
    c.reply_to(m, struct.pack("=QQ", 0, 8) + (bytes(8) if command == Probe.READ else b""))
    assert probe_result(c) == (2, 0)


@pytest.mark.parametrize("body, result", [
    (struct.pack("=QQ", 0x1001, 8) + b"x" * 8, errno.EIO),  # another address
    (struct.pack("=QQ", 0x1000, 4) + b"x" * 4, errno.EIO),  # less
    (struct.pack("=QQ", 0x1000, 9) + b"x" * 9, errno.EIO),  # more
    (struct.pack("=QQ", 0x1000, 0), errno.EIO)])
def test_a_wrong_read_answer_fails_the_transfer(c, body, result):
    c.write(BAR5, 0, b"--------")
    probe_start(c, Probe.READ, 0x1000, 0, 8)
    c.reply_to(c.receive_command(), body)
    assert probe_result(c) == (1, result)
    assert c.read(BAR5, 0, 9) == b"--------\0"


@pytest.mark.parametrize("body", [
    b"", b"\0" * 15, struct.pack("=QQ", 0x1000, 8), struct.pack("=QQ", 0x1000, 8) + b"x" * 7,
    struct.pack("=QQ", 0x1000, 8) + b"x" * 9, struct.pack("=QQ", 0x1000, 1 << 60) + b"x" * 8,
    struct.pack("=QI", 0x1000, 8) + b"x" * 8, struct.pack("=QI", 0x1000, 8) + b"x" * 12])
def test_a_malformed_read_answer_ends_the_transfer(c, body):
    """One that makes no sense (or the layout of another client) must neither be used, nor leave the
    device waiting for good."""
    c.write(BAR5, 0, b"--------")
    probe_start(c, Probe.READ, 0x1000, 0, 8)
    c.reply_to(c.receive_command(), body)
    assert c.read(BAR5, 0, 9) == b"--------\0"
    assert probe_result(c) == (1, errno.EIO)


def test_answers_that_nobody_asked_for(c):
    for m in (message(DMA_READ, struct.pack("=QQ", 0, 4) + b"evil", 0, REPLY),
              message(DMA_WRITE, b"", 0, REPLY), message(DMA_WRITE, b"", 7, REPLY | ERROR, 5),
              message(REGION_READ, struct.pack("=QII", 0, BAR0, 4) + b"evil", 1, REPLY),
              message(0, b"", 1, REPLY), message(999, b"x", 1, REPLY)):
        c.send_bytes(m)
        assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE
    assert c.is_silent()
    assert c.read(BAR5, 0, 4) == bytes(4)


def test_answers_with_the_wrong_id_or_command(c):
    probe_start(c, Probe.READ, 0, 0, 4)
    m, _ = expect(c, DMA_READ, 0, 4)
    body = struct.pack("=QQ", 0, 4) + b"evil"
    c.send_bytes(message(DMA_READ, body, (m.id + 1) & 0xffff, REPLY))
    c.send_bytes(message(DMA_WRITE, b"", m.id, REPLY))
    assert probe_result(c) == (0, 0)
    answer_read(c, m, b"good")
    assert probe_result(c) == (1, 0) and c.read(BAR5, 0, 4) == b"good"


def test_a_duplicate_answer(c):
    probe_start(c, Probe.READ, 0, 0, 4)
    m, _ = expect(c, DMA_READ, 0, 4)
    answer_read(c, m, b"good")
    answer_read(c, m, b"evil")
    assert probe_result(c) == (1, 0) and c.read(BAR5, 0, 4) == b"good"


def test_an_answer_after_a_reset(c):
    probe_start(c, Probe.READ, 0, 0, 4)
    m, _ = expect(c, DMA_READ, 0, 4)
    c.reset()
    answer_read(c, m, b"evil")
    assert c.read(BAR5, 0, 4) == bytes(4)
    assert probe_result(c) == (0, 0)
    c.bus_master()
    probe_start(c, Probe.READ, 0, 0, 4)
    n, _ = expect(c, DMA_READ, 0, 4)
    assert n.id != m.id  # so that the late one cannot be taken for it
    answer_read(c, m, b"evil")
    answer_read(c, n, b"good")
    assert probe_result(c) == (1, 0) and c.read(BAR5, 0, 4) == b"good"


def test_an_answer_after_an_unmap(c):
    """The command was sent while the memory was there."""
    probe_start(c, Probe.READ, 0, 0, 4)
    m, _ = expect(c, DMA_READ, 0, 4)
    c.unmap(0, 1 << 30)
    answer_read(c, m, b"late")
    assert probe_result(c)[0] == 1


def test_a_client_that_never_answers_and_goes(probe, connect, c):
    probe_start(c, Probe.READ, 0, 0, 4)
    probe_start(c, Probe.WRITE, 64, 64, 4, channel=1)
    c.receive_command()
    c.close()
    c = connect(probe)
    assert probe_result(c, 0) == (1, errno.EIO)
    assert probe_result(c, 1) == (1, errno.EIO)
    assert c.is_silent()
    c.map(0, 1 << 30)
    probe_start(c, Probe.READ, 0, 0, 4)
    answer_read(c, expect(c, DMA_READ, 0, 4)[0], b"mine")
    assert c.read(BAR5, 0, 4) == b"mine"


def test_a_transfer_begun_by_the_end_of_another_when_the_client_goes(probe, connect, c):
    """It must not be done in the next client's memory."""
    at = Probe.CHANNEL + 32
    for register, value in (Probe.SIZE, 4), (Probe.COMMAND, Probe.READ | Probe.LATER):
        c.set32(BAR0, at + register, value)
    probe_start(c, Probe.READ, 0, 0, 4)
    c.receive_command()
    c.close()
    c = connect(probe)
    c.map(0, 1 << 30)
    assert c.is_silent()


def test_order_among_channels(c):
    """Mapped memory overtakes; messages go one by one, each channel in its turn."""
    fd = os.memfd_create("mapped")
    os.ftruncate(fd, PAGE)
    c.map(1 << 30, PAGE, fd)
    for channel in range(4):
        probe_start(c, Probe.READ, channel * 0x1000, channel * 16, 8, channel)
    probe_start(c, Probe.WRITE, 1 << 30, 0, 8, 4)
    assert probe_result(c, 4) == (1, 0)
    for channel in range(4):
        m, _ = expect(c, DMA_READ, channel * 0x1000, 8)
        assert c.is_silent()
        answer_read(c, m, b"channel" + bytes([channel]))
    for channel in range(4):
        assert probe_result(c, channel) == (1, 0)
        assert c.read(BAR5, channel * 16, 8) == b"channel" + bytes([channel])
    os.close(fd)


def test_rights_without_a_descriptor(probe, connect):
    c = connect(probe)
    c.bus_master()
    c.map(0, PAGE, flags=MAP_READ)
    c.map(PAGE, PAGE, flags=MAP_WRITE)
    assert probe_dma(c, Probe.WRITE, 0, 0, 4) == errno.EFAULT
    assert probe_dma(c, Probe.READ, PAGE, 0, 4) == errno.EFAULT
    probe_start(c, Probe.WRITE, PAGE, 0, 4)
    c.reply_to(expect(c, DMA_WRITE, PAGE, 4)[0])
    assert c.is_silent()


def test_a_range_with_and_without_a_descriptor(c, memory):
    """Half mapped: the client reads all of it."""
    c.map(1 << 30, PAGE, memory(PAGE))
    probe_start(c, Probe.READ, (1 << 30) - 4, 0, 8)
    answer_read(c, expect(c, DMA_READ, (1 << 30) - 4, 8)[0], b"together")
    assert c.read(BAR5, 0, 8) == b"together"


@pytest.mark.parametrize("messages", range(12, 20))
def test_a_transfer_begun_with_the_output_full(c, messages):
    """The command to the client needs room behind replies that have not left yet."""
    base = Probe.CHANNEL
    c.set32(BAR0, base + Probe.SIZE, 4)
    start = message(10, struct.pack("=QIII", base + Probe.COMMAND, BAR0, 4, Probe.READ), 1)
    read = message(REGION_READ, struct.pack("=QII", 0, CONFIG, 256), 2)
    c.send_bytes(start + read * messages)
    for _ in range(messages + 1):
        assert c.receive_reply().error == 0
    m, _ = expect(c, DMA_READ, 0, 4)
    answer_read(c, m, b"good")
    assert probe_result(c) == (1, 0)


def test_many_transfers_in_a_row(c):
    """The ids go on; replies and commands cross."""
    ids = set()
    for i in range(300):
        probe_start(c, Probe.READ, i, 0, 4)
        m, _ = expect(c, DMA_READ, i, 4)
        ids.add(m.id)
        answer_read(c, m, struct.pack("=I", i))
        assert c.get32(BAR5, 0) == i
    assert len(ids) == 300


def test_a_command_that_only_a_server_sends(c):
    for command in DMA_READ, DMA_WRITE:
        c.send(command, struct.pack("=QQ", 0, 0))
        assert c.receive().error == errno.ENOTSUP
