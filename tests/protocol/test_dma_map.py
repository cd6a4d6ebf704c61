"""DMA_MAP and DMA_UNMAP: which ranges there are, and DMA through those with a file."""

import errno
import fcntl
import os
import resource
import socket
import struct
import tempfile
import time

import pytest

import raw

from devices import Edu, Probe
from dma import edu_dma, probe_dma
from raw import (BAR0, BAR5, DMA_MAP, DMA_UNMAP, MAP_READ, MAP_WRITE, MAX_DATA, REGION_WRITE,
                 UNMAP_ALL, memory_file, refused)

PAGE = 4096
TOP = 1 << 64


def test_dma_through_mapped_memory(edu, connect, memory):
    c = connect(edu)
    fd = memory(4 * PAGE)
    c.bus_master()
    c.map(0x10000, 2 * PAGE, fd, offset=PAGE)
    os.pwrite(fd, b"from the guest" + bytes(18), PAGE + 100)
    edu_dma(c, 0x10000 + 100, Edu.BUFFER + 8, 32, to_ram=False)
    edu_dma(c, Edu.BUFFER + 8, 0x10000 + PAGE + 50, 14, to_ram=True)
    assert os.pread(fd, 16, 2 * PAGE + 50) == b"from the guest\0\0"


def test_dma_over_adjacent_regions(probe, connect, memory):
    """Three regions, three places, one transfer; the middle one has a file of its own."""
    c = connect(probe)
    c.bus_master()
    one, two = memory(8 * PAGE), memory(PAGE)
    c.map(0x100000, PAGE, one, offset=5 * PAGE)
    c.map(0x101000, PAGE, two)
    c.map(0x102000, 2 * PAGE, one)
    data = os.urandom(3 * PAGE)
    c.write(BAR5, 0, data)
    assert probe_dma(c, Probe.WRITE, 0x100800, 0, 3 * PAGE) == 0
    assert os.pread(one, PAGE // 2, 5 * PAGE + PAGE // 2) == data[:2048]
    assert os.pread(two, PAGE, 0) == data[2048:2048 + PAGE]
    assert os.pread(one, 6144, 0) == data[2048 + PAGE:]
    c.write(BAR5, 0, bytes(3 * PAGE))
    assert probe_dma(c, Probe.READ, 0x100800, 7, 3 * PAGE) == 0
    assert c.read(BAR5, 0, 3 * PAGE + 7) == bytes(7) + data


def test_holes_and_rights(probe, connect, memory):
    c = connect(probe)
    c.bus_master()
    fd = memory(8 * PAGE)
    c.map(0x1000, PAGE, fd)
    c.map(0x3000, PAGE, fd, PAGE, MAP_READ)
    c.map(0x4000, PAGE, fd, 2 * PAGE, MAP_WRITE)
    for address, size in (0x2000, 1), (0x1fff, 2), (0x1000, 2 * PAGE), (0, 4), (0xfff, 1), \
                         (0x5000, 1), (0x7fffffffffffffff, 4), (TOP - 5, 4), (TOP - PAGE, PAGE - 1):
        assert probe_dma(c, Probe.READ, address, 0, size) == errno.EFAULT
        assert probe_dma(c, Probe.WRITE, address, 0, size) == errno.EFAULT
    assert probe_dma(c, Probe.READ, 0x3000, 0, PAGE) == 0
    assert probe_dma(c, Probe.WRITE, 0x3000, 0, 1) == errno.EFAULT
    assert probe_dma(c, Probe.READ, 0x4000, 0, 1) == errno.EFAULT
    assert probe_dma(c, Probe.WRITE, 0x4000, 0, PAGE) == 0
    assert probe_dma(c, Probe.WRITE, 0x3ffc, 0, 8) == errno.EFAULT  # nor is the first half done
    assert os.pread(fd, PAGE, PAGE) == bytes(PAGE)
    assert probe_dma(c, Probe.READ, 0x1fff, 0, 1) == 0


def test_bus_master_off(probe, connect, memory):
    c = connect(probe)
    c.map(0, PAGE, memory(PAGE))
    assert probe_dma(c, Probe.READ, 0, 0, 4) == errno.EPERM
    c.bus_master()
    assert probe_dma(c, Probe.READ, 0, 0, 4) == 0
    c.bus_master(False)
    assert probe_dma(c, Probe.WRITE, 0, 0, 4) == errno.EPERM


def test_several_transfers_at_once(probe, connect, memory):
    """All channels, each started by the end of the one before; the last comes full circle."""
    c = connect(probe)
    c.bus_master()
    fd = memory(16 * PAGE)
    c.map(0, 16 * PAGE, fd)
    os.pwrite(fd, b"passed on", 0)
    order = [7, 3, 5, 0, 6, 1, 4, 2]
    for i, n in enumerate(order):
        at = Probe.CHANNEL + 32 * n
        command = Probe.WRITE if i % 2 else Probe.READ
        following = order[i + 1] + 1 if i < 7 else 0
        for register, value in (Probe.ADDRESS_LOW, (i + 1) // 2 * PAGE), \
                               (Probe.MEMORY, i // 2 * 64), (Probe.SIZE, 9), \
                               (Probe.NEXT, following), (Probe.COMMAND, command | Probe.LATER):
            c.set32(BAR0, at + register, value)
    # Each channel copies what the one before it has put there.
    c.set32(BAR0, Probe.CHANNEL + 32 * 7 + Probe.COMMAND, Probe.READ)
    assert [c.get32(BAR0, Probe.CHANNEL + 32 * n + Probe.DONE) for n in range(8)] == [1] * 8
    for i in range(4):
        assert c.read(BAR5, 64 * i, 9) == b"passed on"
        assert os.pread(fd, 9, (i + 1) * PAGE) == b"passed on"


@pytest.mark.parametrize("offset, size, error", [
    (0, 0, errno.EINVAL), (0, (1 << 20) + 1, errno.EINVAL),
    (Probe.MEMORY_SIZE - 3, 4, errno.EINVAL), (Probe.MEMORY_SIZE, 1, errno.EINVAL),
    (0xfffffff0, 4, errno.EINVAL)])
def test_transfers_that_a_device_must_not_start(probe, connect, offset, size, error):
    c = connect(probe)
    c.bus_master()
    base = Probe.CHANNEL
    c.set32(BAR0, base + Probe.MEMORY, offset)
    c.set32(BAR0, base + Probe.SIZE, size)
    c.set32(BAR0, base + Probe.COMMAND, Probe.READ)
    assert c.get32(BAR0, base + Probe.COMMAND) == error
    assert c.get32(BAR0, base + Probe.DONE) == 0


def test_dma_of_a_megabyte(probe, connect, memory):
    c = connect(probe)
    c.bus_master()
    fd = memory(1 << 20)
    c.map(0, 1 << 20, fd)
    data = os.urandom(1 << 20)
    os.pwrite(fd, data, 0)
    assert probe_dma(c, Probe.READ, 0, 0, 1 << 20) == 0
    assert b"".join(c.read(BAR5, at, MAX_DATA) for at in range(0, 1 << 20, MAX_DATA)) == data


# ---- The table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("address, size", [
    (0x10000, 0x4000), (0x10000, 0x1000), (0x13000, 0x1000), (0xf000, 0x2000), (0x13000, 0x9000),
    (0, 0x20000), (0x11000, 0x1000), (0, 1 << 63)])
@pytest.mark.parametrize("with_file", [True, False])
def test_overlaps(edu, connect, memory, address, size, with_file):
    c = connect(edu)
    fd = memory(0x40000)
    c.map(0x10000, 0x4000, fd if with_file else None)
    with refused(errno.EEXIST):
        c.map(address, size)
    if size < 0x40000:
        with refused(errno.EEXIST):
            c.map(address, size, fd)
    c.map(0xf000, 0x1000)
    c.map(0x14000, 0x1000)
    c.unmap(0x10000, 0x4000)
    c.map(0x10000, 0x4000)


def test_unmap_is_exact(edu, connect):
    c = connect(edu)
    c.map(0x10000, 2 * PAGE)
    c.map(0x12000, PAGE)
    c.unmap(0x10000, 2 * PAGE)
    with refused(errno.EEXIST):
        c.map(0x12000, PAGE)
    c.map(0x10000, 2 * PAGE)


@pytest.mark.parametrize("address, size", [
    (0x10000, PAGE), (0x11000, PAGE), (0xf000, 2 * PAGE), (0x11000, 2 * PAGE), (0, 0x11000),
    (0x10001, 2 * PAGE), (0x10000, 2 * PAGE - 1), (0x10800, 1)])
def test_unmap_cuts_no_region_in_two(probe, connect, memory, address, size):
    c = connect(probe)
    c.bus_master()
    c.map(0x10000, 2 * PAGE, memory(2 * PAGE))
    with refused(errno.EINVAL):
        c.unmap(address, size)
    assert probe_dma(c, Probe.WRITE, 0x10000, 0, 2 * PAGE) == 0


@pytest.mark.parametrize("address, size, unmapped", [
    (0x10000, 0x4000, 0x3000), (0, 1 << 63, 0x5000), (0x11000, 0x1000, 0),
    (0x11000, 0x2000, 0x1000), (0x30000, 0x1000, 0), (TOP - PAGE, PAGE, 0)])
def test_unmap_of_a_range_takes_what_is_inside(probe, connect, memory, address, size, unmapped):
    """As VFIO itself: a guest with an IOMMU makes clients unmap ranges of any size."""
    c = connect(probe)
    c.bus_master()
    fd = memory(8 * PAGE)
    regions = [(0x10000, 1), (0x12000, 1), (0x13000, 1), (0x20000, 2)]
    for i, (at, pages) in enumerate(regions):
        c.map(at, pages * PAGE, fd if i != 1 else None, i * PAGE)
    reply = c.call(DMA_UNMAP, struct.pack("=IIQQ", 24, 0, address, size))
    assert struct.unpack("=IIQQ", reply.body) == (24, 0, address, unmapped)
    left = [r for r in regions if not (address <= r[0] and r[0] + r[1] * PAGE <= address + size)]
    assert sum(pages for _, pages in regions) - sum(pages for _, pages in left) == unmapped // PAGE
    for at, pages in regions:
        if (at, pages) in left:
            with refused(errno.EEXIST):
                c.map(at, PAGE)
        else:
            c.map(at, PAGE)


def unmapped(c, address, size):
    """How much an unmap of any range says that it took."""
    reply = c.call(DMA_UNMAP, struct.pack("=IIQQ", 24, 0, address, size))
    return struct.unpack("=IIQQ", reply.body)[3]


def test_unmap_of_ranges_at_both_ends(edu, connect):
    c = connect(edu)
    c.map(0, PAGE)
    c.map(TOP - PAGE, PAGE)
    for address, size in (0, 1), (TOP - 1, 1), (PAGE - 1, TOP - 2 * PAGE + 1), (PAGE, TOP - PAGE - 1):
        with refused(errno.EINVAL):
            c.unmap(address, size)
    assert unmapped(c, PAGE, TOP - 2 * PAGE) == 0
    assert unmapped(c, PAGE, TOP - PAGE) == PAGE
    assert unmapped(c, 0, TOP - 1) == PAGE
    assert unmapped(c, 0, TOP - 1) == 0


def test_unmap_of_ranges_among_many_regions(edu, connect):
    c = connect(edu)
    n = 65535
    assert send_maps(c, n) == 0
    middle = 2 * PAGE * 30000
    assert unmapped(c, middle + PAGE, PAGE) == 0
    assert unmapped(c, middle - PAGE, 20001 * PAGE) == 10000 * PAGE
    with refused(errno.EEXIST):
        c.map(middle - 2 * PAGE, PAGE)
    c.map(middle, PAGE)
    with refused(errno.EEXIST):
        c.map(middle + 20000 * PAGE, PAGE)
    assert unmapped(c, 0, TOP - 1) == (n - 10000 + 1) * PAGE
    c.map(0, 1 << 63)


def test_unmapped_memory_is_gone(probe, connect, memory):
    c = connect(probe)
    c.bus_master()
    fd = memory(2 * PAGE)
    c.map(0, PAGE, fd)
    c.map(PAGE, PAGE, fd, PAGE)
    c.unmap(0, PAGE)
    assert probe_dma(c, Probe.WRITE, 0, 0, 4) == errno.EFAULT
    assert probe_dma(c, Probe.WRITE, PAGE, 0, 4) == 0
    c.unmap_all()
    assert probe_dma(c, Probe.WRITE, PAGE, 0, 4) == errno.EFAULT


def test_unmap_all(edu, connect, memory):
    c = connect(edu)
    c.unmap_all()  # of nothing
    fd = memory(0x10000)
    for i in range(16):
        c.map(i << 16, PAGE, fd if i % 2 else None, i % 2 * i << 12)
    c.unmap_all()
    c.map(0, 1 << 40)


def test_the_whole_address_space(probe, connect):
    c = connect(probe)
    c.map(0, 1 << 63)
    c.map(1 << 63, 1 << 63)
    with refused(errno.EEXIST):
        c.map(TOP - PAGE, PAGE)
    c.unmap(1 << 63, 1 << 63)
    c.map(TOP - PAGE, PAGE)


def dma_map(argsz=32, flags=3, offset=0, address=0x10000, size=PAGE):
    return struct.pack("=IIQQQ", argsz, flags, offset, address, size)


@pytest.mark.parametrize("body", [
    b"", dma_map()[:31], dma_map() + b"\0", dma_map(argsz=31), dma_map(argsz=0), dma_map(flags=0),
    dma_map(flags=4), dma_map(flags=7), dma_map(flags=0x80000003), dma_map(size=0), dma_map(size=1),
    dma_map(size=PAGE + 1), dma_map(address=1), dma_map(address=0x10800), dma_map(size=TOP - PAGE),
    dma_map(address=TOP - PAGE, size=2 * PAGE), dma_map(address=TOP - 1, size=1)], ids=range(17))
def test_bad_maps(edu, connect, memory, body):
    c = connect(edu)
    with refused(errno.EINVAL):
        c.call(DMA_MAP, body)
    with refused(errno.EINVAL):
        c.call(DMA_MAP, body, [memory(1 << 20)])
    c.unmap_all()
    c.map(0, 1 << 63)


def dma_unmap(argsz=24, flags=0, address=0x10000, size=PAGE):
    return struct.pack("=IIQQ", argsz, flags, address, size)


@pytest.mark.parametrize("body", [
    b"", dma_unmap()[:23], dma_unmap() + b"\0", dma_unmap(flags=1), dma_unmap(flags=4),
    dma_unmap(flags=1 << 31), dma_unmap(flags=UNMAP_ALL), dma_unmap(flags=UNMAP_ALL, address=0),
    dma_unmap(flags=UNMAP_ALL, size=0), dma_unmap(size=0),
    dma_unmap(address=TOP - PAGE, size=2 * PAGE)], ids=range(11))
def test_bad_unmaps(edu, connect, body):
    c = connect(edu)
    c.map(0x10000, PAGE)
    with refused(errno.EINVAL):
        c.call(DMA_UNMAP, body)
    c.unmap(0x10000, PAGE)


def test_unmap_with_a_descriptor(edu, connect, memory):
    """The text has none there; some clients send the one that they mapped."""
    c = connect(edu)
    fd = memory(PAGE)
    c.map(0, PAGE, fd)
    body = struct.pack("=IIQQ", 24, 0, 0, PAGE)
    assert c.call(DMA_UNMAP, body, [fd]).body == body
    c.map(0, PAGE, fd)
    with refused(errno.EINVAL):
        c.call(DMA_UNMAP, body, [fd, fd])
    c.unmap(0, PAGE)


# ---- Descriptors that are of no use -------------------------------------------------------------


def pipe_end():
    ends = os.pipe()
    os.close(ends[1])
    return ends[0]


def sealed(flags):
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, PAGE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, flags)
    return fd


def opened(flags):
    with tempfile.NamedTemporaryFile() as f:
        f.truncate(1 << 16)
        return os.open(f.name, flags)


def an_event():
    return os.eventfd(0)


@pytest.mark.parametrize("make, error", [
    (pipe_end, errno.EINVAL),
    (lambda: os.open("/tmp", os.O_RDONLY), errno.EINVAL),
    (lambda: os.open("/dev/null", os.O_RDWR), errno.EINVAL),
    (lambda: os.open("/dev/zero", os.O_RDWR), errno.EINVAL),
    (lambda: socket.socket().detach(), errno.EINVAL),
    (an_event, errno.EINVAL),
    (lambda: opened(os.O_WRONLY), errno.EINVAL),
    (lambda: opened(os.O_PATH), errno.EINVAL),
    (lambda: opened(os.O_RDONLY), errno.EACCES),
    (lambda: sealed(0x8), errno.EACCES),  # F_SEAL_WRITE
    (lambda: memory_file(0), errno.EINVAL),
    (lambda: memory_file(PAGE - 1), errno.EINVAL),
    (lambda: memory_file(100), errno.EINVAL),
], ids=["pipe", "folder", "null", "zero", "socket", "eventfd", "write only", "path", "read only",
        "sealed", "empty", "short by a byte", "100 bytes"])
def test_files_that_cannot_be_mapped(edu, connect, make, error):
    c = connect(edu)
    fd = make()
    before = os.listdir(f"/proc/{edu.pid}/fd")
    with refused(error):
        c.map(0x1000, PAGE, fd)
    os.close(fd)
    assert os.listdir(f"/proc/{edu.pid}/fd") == before
    c.map(0x1000, PAGE)


def test_proc_files_are_no_memory(edu, connect):
    c = connect(edu)
    fd = os.open("/proc/self/maps", os.O_RDONLY)
    with refused(errno.EINVAL):
        c.map(0x1000, PAGE, fd, flags=MAP_READ)
    os.close(fd)


def test_a_read_only_file_serves_read_only_regions(probe, connect):
    c = connect(probe)
    c.bus_master()
    fd = opened(os.O_RDONLY)
    c.map(0x1000, PAGE, fd, flags=MAP_READ)
    os.close(fd)
    assert probe_dma(c, Probe.READ, 0x1000, 0, PAGE) == 0
    assert probe_dma(c, Probe.WRITE, 0x1000, 0, PAGE) == errno.EFAULT


@pytest.mark.parametrize("offset", [1, 2048, PAGE - 1, 3 * PAGE, 4 * PAGE, 1 << 40, 1 << 62, 1 << 63,
                                    TOP - PAGE, TOP - 1])
def test_offsets_that_are_not_in_the_file(edu, connect, memory, offset):
    c = connect(edu)
    fd = memory(4 * PAGE)
    with refused(errno.EINVAL):
        c.map(0, 2 * PAGE, fd, offset)
    c.map(0, 2 * PAGE, fd, 2 * PAGE)


@pytest.mark.parametrize("offset", [1, 12345, 2**63, 2**64 - PAGE, 2**64 - 1])
def test_an_offset_without_a_file_means_nothing(edu, connect, offset):
    c = connect(edu)
    c.map(0, PAGE, offset=offset)
    with refused(errno.EEXIST):
        c.map(0, PAGE)
    c.unmap(0, PAGE)


def test_a_file_may_grow(probe, connect, memory):
    c = connect(probe)
    c.bus_master()
    fd = memory(PAGE)
    c.map(0, PAGE, fd)
    os.ftruncate(fd, 4 * PAGE)
    c.map(PAGE, 3 * PAGE, fd, PAGE)
    c.write(BAR5, 0, b"across")
    assert probe_dma(c, Probe.WRITE, PAGE - 3, 0, 6) == 0
    assert os.pread(fd, 6, PAGE - 3) == b"across"


@pytest.mark.parametrize("count", [2, 3, 16])
def test_too_many_descriptors(edu, connect, memory, count):
    c = connect(edu)
    before = len(os.listdir(f"/proc/{edu.pid}/fd"))
    with refused(errno.EINVAL):
        c.call(DMA_MAP, dma_map(), [memory(PAGE)] * count)
    assert len(os.listdir(f"/proc/{edu.pid}/fd")) == before


def test_more_descriptors_than_any_message_may_have(edu, connect, memory):
    c = connect(edu)
    before = len(os.listdir(f"/proc/{edu.pid}/fd"))
    fd = memory(PAGE)
    with refused(errno.EINVAL):
        c.call(DMA_MAP, dma_map(), [fd] * 200)
    assert len(os.listdir(f"/proc/{edu.pid}/fd")) == before
    c.map(0x10000, PAGE, fd)


# ---- A client that truncates its memory ---------------------------------------------------------


def test_truncated_file(probe, connect, memory):
    """Access fails, and the process lives; other memory is not concerned."""
    c = connect(probe)
    c.bus_master()
    fd, other = memory(64 * PAGE), memory(PAGE)
    c.map(0, 64 * PAGE, fd)
    c.map(1 << 30, PAGE, other)
    assert probe_dma(c, Probe.WRITE, 0, 0, 64 * PAGE) == 0
    os.ftruncate(fd, 0)
    for command in Probe.READ, Probe.WRITE, Probe.READ:
        assert probe_dma(c, command, 32 * PAGE, 0, 8) == errno.EFAULT
    assert probe_dma(c, Probe.WRITE, 1 << 30, 0, PAGE) == 0
    os.ftruncate(fd, 64 * PAGE)  # the old region stays lost...
    assert probe_dma(c, Probe.WRITE, 0, 0, 8) == errno.EFAULT
    c.unmap(0, 64 * PAGE)
    c.map(0, 64 * PAGE, fd)      # ...and a new one is as good as any
    assert probe_dma(c, Probe.WRITE, 63 * PAGE, 0, PAGE) == 0


def test_truncated_under_a_transfer_over_two_files(probe, connect, memory):
    c = connect(probe)
    c.bus_master()
    one, two = memory(PAGE), memory(PAGE)
    c.map(0, PAGE, one)
    c.map(PAGE, PAGE, two)
    os.ftruncate(two, 0)
    assert probe_dma(c, Probe.READ, PAGE - 8, 0, 16) == errno.EFAULT
    assert probe_dma(c, Probe.READ, 0, 0, PAGE) == 0


def test_truncated_edu(edu, connect, memory):
    c = connect(edu)
    c.bus_master()
    fd = memory(PAGE)
    c.map(0, PAGE, fd)
    os.ftruncate(fd, 0)
    edu_dma(c, 0, Edu.BUFFER, 64, to_ram=False)
    edu_dma(c, Edu.BUFFER, 0, 64, to_ram=True)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed


# ---- Many ---------------------------------------------------------------------------------------


def send_maps(c, n, fds=None, stride=2 * PAGE, file_stride=PAGE):
    """n maps, replies awaited in batches. Returns the number that were refused with ENOSPC."""
    refusals, waiting = 0, 0
    for i in range(n):
        body = dma_map(offset=i * file_stride if fds else 0, address=i * stride)
        c.send(DMA_MAP, body, [fds(i)] if fds else [], id=i & 0xffff)
        waiting += 1
        if waiting == 64 or i == n - 1:
            for _ in range(waiting):
                reply = c.receive()
                assert reply.error in (0, errno.ENOSPC)
                refusals += reply.error != 0
            waiting = 0
    return refusals


def test_as_many_regions_of_one_file_as_there_may_be(probe, connect, memory):
    """They share a mapping and a descriptor, and each finds its own page."""
    c = connect(probe)
    c.bus_master()
    n = 65535
    fd = memory(n * PAGE)
    files = len(os.listdir(f"/proc/{probe.pid}/fd"))
    assert send_maps(c, n, lambda i: fd) == 0
    assert len(os.listdir(f"/proc/{probe.pid}/fd")) == files + 1
    with refused(errno.ENOSPC):
        c.map(1 << 40, PAGE)
    for i in 0, 1, 4711, 40000, n - 1:
        os.pwrite(fd, struct.pack("=I", i + 1), i * PAGE)
        assert probe_dma(c, Probe.READ, i * 2 * PAGE, 0, 4) == 0
        assert c.get32(BAR5, 0) == i + 1
        assert probe_dma(c, Probe.READ, i * 2 * PAGE + PAGE, 0, 4) == errno.EFAULT
    c.unmap(4711 * 2 * PAGE, PAGE)
    c.map(1 << 40, PAGE)  # room for one again
    c.unmap_all()
    assert len(os.listdir(f"/proc/{probe.pid}/fd")) == files


def test_regions_without_a_file_up_to_the_limit(edu, connect):
    c = connect(edu)
    assert send_maps(c, 65540) == 5
    c.close()
    c = connect(edu)  # all of them went with the client
    c.map(0, 1 << 63)


def test_more_files_than_descriptors(edu, connect):
    """The process runs out of descriptors: an error reply, and it goes on."""
    resource.prlimit(edu.pid, resource.RLIMIT_NOFILE, (40, 40))
    c = connect(edu)
    fds, error = [], 0
    try:
        while not error:
            fds.append(memory_file(PAGE))
            assert len(fds) < 60, "the limit was never met"
            c.send(DMA_MAP, dma_map(address=len(fds) * PAGE), [fds[-1]])
            error = c.receive().error
        assert error == errno.EMFILE
        assert c.get32(BAR0, Edu.ID) == 0x010000ed
        c.unmap_all()
        c.map(0, PAGE, fds[0])
    finally:
        for fd in fds:
            os.close(fd)


def processor_ticks(pid):
    """Hundredths of a second that the process was running."""
    with open(f"/proc/{pid}/stat") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))


def test_no_descriptor_left_for_another_client(serve, connect):
    """Somebody is at the door, and cannot be let in: the process must not turn round and round."""
    edu = serve("edu", options=["--no-keeper"])
    c = connect(edu)
    open_files = len(os.listdir(f"/proc/{edu.pid}/fd"))
    _, most = resource.prlimit(edu.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(edu.pid, resource.RLIMIT_NOFILE, (open_files, most))
    with raw.Client(edu.socket, version=None) as other:
        assert other.is_closed()
        before = processor_ticks(edu.pid)
        time.sleep(0.5)
        assert processor_ticks(edu.pid) - before < 10  # of 50
    resource.prlimit(edu.pid, resource.RLIMIT_NOFILE, (most, most))
    c.close()
    assert connect(edu).get32(BAR0, Edu.ID) == 0x010000ed
