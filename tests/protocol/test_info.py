"""What the server says about its device: info commands, and the memory that comes with them."""

import errno
import mmap
import os
import struct

import pytest

from devices import Probe
from raw import (BAR0, BAR1, BAR2, BAR3, BAR4, BAR5, CONFIG, ERR, GET_INFO, GET_IRQ_INFO,
                 GET_REGION_INFO, INTX, MSI, MSIX, REQ, ROM, VGA, refused)

PCI, RESETTABLE = 2, 1
READ, WRITE, MMAP, CAPS = 1, 2, 4, 8
EVENTFD, MASKABLE, AUTOMASKED = 1, 2, 4
SPARSE = [(0x1000, 0x1000), (0x4000, 0x2000)]


@pytest.mark.parametrize("argsz", [16, 17, 4096, 0xffffffff])
def test_device_info(edu, connect, argsz):
    assert connect(edu).device_info(argsz) == (16, PCI | RESETTABLE, 9, 5)


@pytest.mark.parametrize("command, size, index", [(GET_INFO, 16, None), (GET_REGION_INFO, 32, 8),
                                                  (GET_IRQ_INFO, 16, 8)])
def test_argsz_and_length_must_hold_the_structure(edu, connect, command, size, index):
    c = connect(edu)
    for argsz in 0, 1, size - 1:
        with refused(errno.EINVAL):
            c.call(command, struct.pack("=I", argsz) + bytes(size - 4))
    for length in 0, 4, size - 1, size + 1, size + 4:
        with refused(errno.EINVAL):
            c.call(command, struct.pack("=I", size).ljust(length, b"\0")[:length])
    assert c.call(command, struct.pack("=I", size) + bytes(size - 4)).size >= 16 + size


# ---- Regions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index, size", [(BAR0, 1 << 20), (BAR1, 0), (BAR2, 0), (BAR3, 0),
                                         (BAR4, 0), (BAR5, 0), (ROM, 0), (CONFIG, 256), (VGA, 0)])
def test_regions_of_edu(edu, connect, index, size):
    info, caps, fds = connect(edu).region_info(index)
    assert info == (32, READ | WRITE if size else 0, 0, size, 0)
    assert not caps and not fds


@pytest.mark.parametrize("index, size, flags", [
    (BAR0, 4096, READ | WRITE), (BAR1, 32, READ | WRITE), (BAR2, 0x4000, READ | WRITE | MMAP),
    (BAR3, 0, 0), (BAR4, 0x10000, READ | WRITE | MMAP | CAPS), (BAR5, 1 << 20, READ | WRITE),
    (ROM, 0, 0), (CONFIG, 4096, READ | WRITE), (VGA, 0, 0)])
def test_regions_of_probe(probe, connect, index, size, flags):
    info, _, fds = connect(probe).region_info(index, 4096)
    assert info[3] == size and info[1] == flags
    assert len(fds) == (1 if flags & MMAP else 0)
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("index", [9, 10, 40, 0x7fffffff, 0xffffffff])
def test_no_such_region(edu, connect, index):
    c = connect(edu)
    with refused(errno.EINVAL):
        c.region_info(index)
    assert c.region_info(BAR0)[0][3] == 1 << 20


def parse_sparse(caps):
    """The areas in the bytes behind the fixed part of region info."""
    id, version, following, count, reserved = struct.unpack("=HHIII", caps[:16])
    assert (id, version, following, reserved) == (1, 1, 0, 0) and len(caps) == 16 + 16 * count
    return [struct.unpack("=QQ", caps[16 + 16 * i:32 + 16 * i]) for i in range(count)]


def test_sparse_areas(probe, connect):
    info, caps, fds = connect(probe).region_info(BAR4, 4096)
    assert info[0] == 32 + 16 + 2 * 16  # argsz says how much there is
    assert info[2] == 32                # cap_offset
    assert parse_sparse(caps) == SPARSE
    os.close(fds[0])


@pytest.mark.parametrize("argsz", [32, 33, 48, 79])
def test_sparse_areas_without_the_room(probe, connect, argsz):
    """No half capability: the fixed part, with the size to ask again with."""
    info, caps, fds = connect(probe).region_info(BAR4, argsz)
    assert info[0] == 80 and info[2] == 0 and caps == b"" and not info[1] & CAPS
    for fd in fds:
        os.close(fd)


def test_just_the_room(probe, connect):
    info, caps, fds = connect(probe).region_info(BAR4, 80)
    assert info[1] & CAPS and info[2] == 32 and parse_sparse(caps) == SPARSE
    os.close(fds[0])


# ---- Regions of the device's own kind -----------------------------------------------------------

TYPED, TYPED_MAPPED = 9, 10  # of probe


def test_typed_regions_are_counted(probe, edu, connect):
    assert connect(probe).device_info()[2] == 11
    assert connect(edu).device_info()[2] == 9


def test_a_typed_region(probe, connect):
    c = connect(probe)
    info, caps, fds = c.region_info(TYPED, 4096)
    assert info == (48, READ | WRITE | CAPS, 32, 48, 0) and not fds
    assert struct.unpack("=HHIII", caps) == (2, 1, 0, 0x80001234, 7)
    assert c.region_info(TYPED, 47)[0] == (48, READ | WRITE, 0, 48, 0)
    c.write(TYPED, 4, b"abcd")
    assert c.read(TYPED, 0, 48) == bytes(4) + b"abcd" + bytes(40)
    for at, n in (47, 2), (48, 1), (0, 49):
        with refused(errno.EINVAL):
            c.read(TYPED, at, n)


def test_a_typed_region_with_areas(probe, connect):
    """Two capabilities: where to map, and of what type it is."""
    c = connect(probe)
    info, caps, fds = c.region_info(TYPED_MAPPED, 4096)
    assert info[:4] == (32 + 32 + 16, READ | WRITE | MMAP | CAPS, 32, 0x2000) and len(fds) == 1
    assert struct.unpack("=HHIIIQQ", caps[:32]) == (1, 1, 64, 1, 0, 0x1000, 0x1000)
    assert struct.unpack("=HHIII", caps[32:]) == (2, 1, 0, 0x80001234, 8)
    with mmap.mmap(fds[0], 0x1000, offset=info[4] + 0x1000) as area:
        area[:4] = b"mine"
        assert c.read(TYPED_MAPPED, 0x1000, 4) == b"mine"
    with refused(errno.EINVAL):
        c.read(TYPED_MAPPED, 0, 4)  # neither an area nor served by the device
    os.close(fds[0])


# ---- Memory that the client maps ----------------------------------------------------------------


@pytest.fixture
def map_bar():
    """map_bar(client, index, offset, size) maps a BAR by the descriptor of its region info."""
    mappings = []

    def make(c, index, offset, size):
        (_, _, _, _, base), _, fds = c.region_info(index, 4096)
        mappings.append(mmap.mmap(fds[0], size, offset=base + offset))
        os.close(fds[0])
        return mappings[-1]

    yield make
    for m in mappings:
        m.close()


def test_a_mapping_is_the_devices_memory(probe, connect, map_bar):
    c = connect(probe)
    memory = map_bar(c, BAR2, 0, 0x4000)
    memory[0x100:0x104] = b"\x78\x56\x34\x12"
    c.set32(BAR0, Probe.PEEK_AT, 0x100)
    assert c.get32(BAR0, Probe.PEEK) == 0x12345678  # the device sees what the client stored
    c.set32(BAR0, Probe.PEEK, 0xcafebabe)
    assert memory[0x100:0x104] == b"\xbe\xba\xfe\xca"  # and the other way round
    c.write(BAR2, 0x102, b"\1\2\3")
    assert memory[0x100:0x106] == b"\xbe\xba\1\2\3\0"  # a message reaches the same memory
    memory[0x3fff] = 7
    assert c.read(BAR2, 0x3ffe, 2) == b"\0\7"


def test_sparse_mappings(probe, connect, map_bar):
    c = connect(probe)
    for offset, size in SPARSE:
        memory = map_bar(c, BAR4, offset, size)
        memory[0:4] = struct.pack("=I", offset)
        memory[size - 4:size] = struct.pack("=I", size)
        assert c.get32(BAR4, offset) == offset
        assert c.get32(BAR4, offset + size - 4) == size
        c.write(BAR4, offset + 8, b"by message")
        assert memory[8:18] == b"by message"


def test_between_the_areas_the_device_answers(probe, connect):
    c = connect(probe)
    for at in 0, 0xffc, 0x2000, 0x3ffc, 0x6000, 0x7ffc, 0xfffc:
        assert c.read(BAR4, at, 4) == bytes((at + i & 0xff) ^ 0x55 for i in range(4))
        c.write(BAR4, at, b"\0\0\0\0")
        assert (c.get32(BAR0, Probe.TRAPPED_AT), c.get32(BAR0, Probe.TRAPPED_SIZE)) == (at, 4)
    c.write(BAR4, 0x1000, b"\0\0\0\0")
    assert c.get32(BAR0, Probe.TRAPPED_AT) == 0xfffc  # areas do not disturb the device


@pytest.mark.parametrize("at, n", [(0xffc, 8), (0x1ffc, 8), (0, 0x10000), (0x3fff, 2), (0x5fff, 2)])
def test_accesses_that_are_half_in_an_area(probe, connect, at, n):
    """Neither memory nor device code serves all of it."""
    c = connect(probe)
    with refused(errno.EINVAL):
        c.read(BAR4, at, n)
    with refused(errno.EINVAL):
        c.write(BAR4, at, bytes(n))
    assert c.get32(BAR0, Probe.TRAPPED_SIZE) == 0


def test_a_mapping_outlives_the_connection(probe, connect, map_bar):
    c = connect(probe)
    memory = map_bar(c, BAR2, 0, 4096)
    c.close()
    memory[0:4] = b"\1\0\0\0"
    c = connect(probe)
    assert c.get32(BAR2, 0) == 1


def test_the_client_cannot_take_a_bars_memory_away(probe, connect):
    c = connect(probe)
    _, _, (fd,) = c.region_info(BAR2)
    for size in 0, 4096, 1 << 20:
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)
    assert c.get32(BAR2, 0) == 0


def test_descriptors_come_in_order_with_pipelined_replies(probe, connect):
    c = connect(probe)
    asked = [BAR0, BAR2, BAR4, CONFIG, BAR2, BAR2, BAR4, BAR5] * 5
    for id, index in enumerate(asked):
        c.send(GET_REGION_INFO, struct.pack("=IIIIQQ", 4096, 0, index, 0, 0, 0), id=id)
    for id, index in enumerate(asked):
        reply = c.check(c.receive(), GET_REGION_INFO, id)
        assert struct.unpack_from("=I", reply.body, 8) == (index,)
        assert len(reply.fds) == (index in (BAR2, BAR4))
        for fd in reply.fds:
            assert os.fstat(fd).st_size == (0x4000 if index == BAR2 else 0x10000)
            os.close(fd)


# ---- Interrupts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("index, count", [(INTX, 1), (MSI, 4), (MSIX, 80), (ERR, 1), (REQ, 1)])
def test_irqs_of_probe(probe, connect, index, count):
    flags, n = connect(probe).irq_info(index)
    assert n == count and flags & EVENTFD
    assert bool(flags & AUTOMASKED) == (index == INTX)
    assert flags & MASKABLE or index not in (INTX, MSIX)


@pytest.mark.parametrize("index, count", [(INTX, 1), (MSI, 1), (MSIX, 0), (ERR, 0), (REQ, 0)])
def test_irqs_of_edu(edu, connect, index, count):
    flags, n = connect(edu).irq_info(index)
    assert n == count and bool(flags) == bool(count)


@pytest.mark.parametrize("index", [5, 6, 0xffffffff])
def test_no_such_irq(edu, connect, index):
    c = connect(edu)
    with refused(errno.EINVAL):
        c.irq_info(index)
