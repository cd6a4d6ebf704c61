"""Clients whose DMA messages are not laid out as the specification says: QEMU 10, and older ones."""

import os
import struct

import pytest

from devices import Probe
from dma import probe_result, probe_start
from raw import BAR5, DMA_READ, DMA_WRITE, MAP_WRITE, REPLY, HEADER

SIZE = 1 << 16


class Old:
    """A client with a count of 32 bits, and SIZE bytes of memory at address 0.

    Its messages are as long as those with 64 bits if it is `padded`; the data is not where it is there.
    """

    def __init__(self, c, padded=True):
        self.c, self.padded = c, padded
        self.memory = bytearray(SIZE)
        self.seen = []
        c.bus_master()
        c.map(0, SIZE)

    def serve(self, channel=0, transfers=1):
        """Answers until so many transfers of the channel have ended. Returns the last one's error."""
        while True:
            done, error = probe_result(self.c, channel)
            if done >= transfers:
                return error
            if self.c.commands or done < transfers:
                self.answer(self.c.receive_command())

    def answer(self, m):
        pad = 4 if self.padded else 0
        address, count = struct.unpack("=QI", m.body[:12])
        self.seen.append((m.command, address, count))
        assert address + count <= SIZE
        if m.command == DMA_READ:
            assert len(m.body) in (12 + pad, 16)
            data = bytes(self.memory[address:address + count])
            body = struct.pack("=QI", address, count) + data + bytes(pad)
            self.c.send_bytes(HEADER.pack(m.id, m.command, 16 + len(body), REPLY, 0) + body)
        else:
            assert len(m.body) == 12 + count + pad
            self.memory[address:address + count] = m.body[12:12 + count]
            self.c.reply_to(m)


@pytest.fixture(params=[True, False], ids=["QEMU 10", "packed"])
def old(request, probe, connect):
    return Old(connect(probe), request.param)


def read(old, address, n, transfers=1):
    probe_start(old.c, Probe.READ, address, 0x100, n)
    assert old.serve(transfers=transfers) == 0
    return old.c.read(BAR5, 0x100, n)


def write(old, address, data, transfers=1):
    old.c.write(BAR5, 0x100, data)
    probe_start(old.c, Probe.WRITE, address, 0x100, len(data))
    assert old.serve(transfers=transfers) == 0
    return bytes(old.memory[address:address + len(data)])


def test_read(old):
    old.memory[:8] = b"\1abcdefg"
    assert read(old, 0, 8) == b"\1abcdefg"
    assert old.seen == [(DMA_READ, 0, 8)]
    assert write(old, 0x1000, b"known by now", 2) == b"known by now"
    assert old.seen[1:] == [(DMA_WRITE, 0x1000, 12)]


@pytest.mark.parametrize("data", [bytes(4) + b"x" + bytes(27), bytes(31) + b"x", bytes(32), b"x" * 32,
                                  bytes(5) + b"xyz" + bytes(24), b"\0\0\0x" + bytes(28)])
def test_data_with_zeros_in_the_wrong_places(old, data):
    old.memory[0x40:0x60] = data
    old.memory[0x60:0x70] = b"what lies behind"
    assert read(old, 0x40, 32) == data
    assert read(old, 0x60, 16, 2) == b"what lies behind"


def test_one_byte(old):
    old.memory[7] = 9
    assert read(old, 7, 1) == b"\x09"
    assert read(old, 8, 1, 2) == b"\0"


def test_a_write_is_not_the_first_command(old):
    """It would be shifted by four bytes, and nobody would know."""
    old.memory[0x1000:0x1010] = b"here before this"
    assert write(old, 0x1000, b"a written string") == b"a written string"
    assert old.seen[0][0] == DMA_READ and old.seen[-1] == (DMA_WRITE, 0x1000, 16)
    assert write(old, 0x2000, b"another", 2) == b"another"
    assert [command for command, _, _ in old.seen].count(DMA_READ) == len(old.seen) - 2


def test_large_transfers(old):
    data = os.urandom(SIZE)
    old.memory[:] = data
    assert read(old, 0, 60000) == data[:60000]
    assert write(old, 100, data[:50000], 2) == data[:50000]


# ---- And those who follow the specification ----------------------------------------------------


@pytest.fixture
def c(probe, connect):
    c = connect(probe)
    c.bus_master()
    c.map(0, SIZE)
    return c


def serve(c, memory, transfers=1):
    seen = []
    while probe_result(c)[0] < transfers:
        m = c.receive_command()
        address, count = struct.unpack("=QQ", m.body[:16])
        seen.append((m.command, address, count))
        if m.command == DMA_READ:
            c.reply_to(m, m.body[:16] + bytes(memory[address:address + count]))
        else:
            assert len(m.body) == 16 + count
            memory[address:address + count] = m.body[16:]
            c.reply_to(m)
    assert probe_result(c) == (transfers, 0)
    return seen


@pytest.mark.parametrize("data", [bytes(32), b"x" + bytes(31), bytes(31) + b"x", bytes(8) + b"x" * 24,
                                  bytes(4) + b"x" + bytes(27), b"x" * 27 + bytes(5)])
def test_zeros_in_the_right_places(c, data):
    memory = bytearray(SIZE)
    memory[0x40:0x60] = data
    memory[0x60:0x70] = b"what lies behind"
    probe_start(c, Probe.READ, 0x40, 0x100, 32)
    serve(c, memory)
    assert c.read(BAR5, 0x100, 32) == data
    c.write(BAR5, 0x100, b"in its place")
    probe_start(c, Probe.WRITE, 0x1000, 0x100, 12)
    serve(c, memory, 2)
    assert memory[0xffc:0x1010] == bytes(4) + b"in its place" + bytes(4)


def test_a_first_write_is_preceded_by_one_look(c):
    memory = bytearray(SIZE)
    c.write(BAR5, 0x100, b"in its place")
    probe_start(c, Probe.WRITE, 0x1000, 0x100, 12)
    assert serve(c, memory) == [(DMA_READ, 0x1000, 12), (DMA_WRITE, 0x1000, 12)]
    probe_start(c, Probe.WRITE, 0x2000, 0x100, 12)
    assert serve(c, memory, 2) == [(DMA_WRITE, 0x2000, 12)]
    assert memory[0x1000:0x100c] == memory[0x2000:0x200c] == b"in its place"


def test_memory_that_is_for_writing_alone_is_not_looked_at(probe, connect):
    c = connect(probe)
    c.bus_master()
    c.map(0, SIZE, flags=MAP_WRITE)
    c.write(BAR5, 0x100, b"in its place")
    probe_start(c, Probe.WRITE, 0x1000, 0x100, 12)
    assert serve(c, bytearray(SIZE)) == [(DMA_WRITE, 0x1000, 12)]


def test_a_look_that_is_refused(c):
    probe_start(c, Probe.WRITE, 0x1000, 0x100, 12)
    c.reply_to(c.receive_command(), error=14)
    assert serve(c, bytearray(SIZE)) == [(DMA_WRITE, 0x1000, 12)]


def test_the_next_client_may_be_another_one(probe, connect):
    """What was learned is forgotten with the client."""
    first = Old(connect(probe))
    first.memory[:4] = b"abcd"
    assert read(first, 0, 4) == b"abcd"
    first.c.close()
    c = connect(probe)
    c.reset()
    c.bus_master()
    c.map(0, SIZE)
    c.write(BAR5, 0x100, b"in its place")
    probe_start(c, Probe.WRITE, 0x1000, 0x100, 12)
    serve(c, bytearray(SIZE))
