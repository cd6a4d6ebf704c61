"""Devices that are not PCI: what they say about themselves, their regions, interrupts and DMA."""

import errno
import json
import mmap
import os
import struct
import subprocess

import pytest

from devices import PROBE, Probe
from dma import probe_dma, probe_result, probe_start
from program import OUTBOARD
from raw import (DATA_BOOL, DATA_EVENTFD, DATA_NONE, DMA_READ, MASK, TIMEOUT, TRIGGER, UNMASK, Event,
                 memory_file, refused, when_free)

RESETTABLE, PCI, PLATFORM = 1, 2, 4
READ, WRITE, MMAP, CAPS = 1, 2, 4, 8
EVENTFD, MASKABLE, AUTOMASKED = 1, 2, 4
LEVEL, EDGE_0, EDGE_1, OTHER = range(4)  # interrupts of probe
REGISTERS, SPARSE, WHOLE, MEMORY, ROM, SINK = range(6)
CAP_SPARSE, CAP_PLATFORM = 1, 0x4f42
AREAS = [(0x1000, 0x1000), (0x4000, 0x2000)]


@pytest.fixture
def c(serve, connect):
    return connect(serve(str(PROBE), "bus=platform"))


def capabilities(c, index):
    """{id: (version, bytes behind the header)}, as one walks the list."""
    (size, _, at, _, _), tail, fds = c.region_info(index, 4096)
    for fd in fds:
        os.close(fd)
    found = {}
    while at:
        id, version, next = struct.unpack_from("=HHI", tail, at - 32)
        assert id not in found and at % 8 == 0
        found[id] = (version, tail[at - 32 + 8:(next or size) - 32])
        at = next
    return found


def strings(data):
    assert data[-1:] in (b"", b"\0")
    return data.decode().split("\0")[:-1]


def platform(c, index):
    """name, compatible, irq_names"""
    version, data = capabilities(c, index)[CAP_PLATFORM]
    sizes = struct.unpack_from("=IIII", data)
    assert version == 1 and sizes[3] == 0
    data = data[16:]
    assert 0 <= len(data) - sum(sizes[:3]) < 8
    ends = sizes[0], sizes[0] + sizes[1], sum(sizes[:3])
    return strings(data[:ends[0]]), strings(data[ends[0]:ends[1]]), strings(data[ends[1]:ends[2]])


# ---- What it is ---------------------------------------------------------------------------------


def test_device_info(c):
    assert c.device_info() == (16, PLATFORM | RESETTABLE, 6, 4)


@pytest.mark.parametrize("index, name, size, flags", [
    (REGISTERS, "registers", 4096, READ | WRITE | CAPS),
    (SPARSE, "sparse", 0x10000, READ | WRITE | MMAP | CAPS),
    (WHOLE, "whole", 0x4000, READ | WRITE | MMAP | CAPS),
    (MEMORY, "memory", 1 << 20, READ | WRITE | CAPS), (ROM, "rom", 33, READ | CAPS),
    (SINK, "sink", 8, WRITE | CAPS)])
def test_regions(c, index, name, size, flags):
    info, _, fds = c.region_info(index, 4096)
    assert (info[3], info[1], info[4]) == (size, flags, 0)
    assert len(fds) == (1 if flags & MMAP else 0)
    assert platform(c, index) == ([name], ["outboard,probe-2", "outboard,probe"],
                                  ["level", "edge-0", "edge-1", "other"])


def test_areas_and_names_in_one_list(c):
    found = capabilities(c, SPARSE)
    assert set(found) == {CAP_SPARSE, CAP_PLATFORM}
    assert struct.unpack("=II4Q", found[CAP_SPARSE][1]) == (2, 0, *AREAS[0], *AREAS[1])
    assert set(capabilities(c, WHOLE)) == {CAP_PLATFORM}


@pytest.mark.parametrize("argsz", [32, 33, 100])
def test_too_little_room_for_the_capabilities(c, argsz):
    needed = c.region_info(SPARSE, 4096)[0][0]
    (size, flags, at, _, _), tail, _ = c.region_info(SPARSE, argsz)
    assert (size, at, tail) == (needed, 0, b"") and not flags & CAPS
    assert len(c.region_info(SPARSE, needed)[1]) == needed - 32


def test_what_there_is_not(c):
    for index in 6, 7, 8, 9, 16, 0xffffffff:
        with refused(errno.EINVAL):
            c.region_info(index)
        with refused(errno.EINVAL):
            c.read(index, 0, 1)
        with refused(errno.EINVAL):
            c.write(index, 4, b"\4\0")
    for index in 4, 16, 0xffffffff:
        with refused(errno.EINVAL):
            c.irq_info(index)
        with refused(errno.EINVAL):
            c.set_irqs(index, DATA_EVENTFD | TRIGGER, fds=[Event()])


def test_first_bus_unasked(serve, connect):
    c = connect(serve(str(PROBE)))
    assert c.device_info() == (16, PCI | RESETTABLE, 11, 5)
    assert CAP_PLATFORM not in capabilities(c, 4)


def test_bus_by_name(serve, connect):
    assert connect(serve(str(PROBE), "bus=pci")).device_info()[1] == PCI | RESETTABLE


def serve_and_fail(*words):
    done = subprocess.run([OUTBOARD, "serve", *words, "--socket-path=/dev/null/x"],
                          capture_output=True, text=True, timeout=TIMEOUT)
    assert len(done.stderr.splitlines()) == 1
    return done.returncode, done.stderr


def test_a_bus_that_it_is_not_made_for(tmp_path):
    done = subprocess.run([OUTBOARD, "serve", str(PROBE), "bus=isa",
                           f"--socket-path={tmp_path}/socket"],
                          capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1 and "bus=isa: not one of pci|platform" in done.stderr
    assert serve_and_fail("edu", "bus=pci")[0] == 2
    assert serve_and_fail(str(PROBE), "bus=pci", "bus=pci")[0] == 2


def test_inspect(serve):
    server = serve(str(PROBE), "bus=platform")
    said = subprocess.run([OUTBOARD, "inspect", "--json", server.socket], capture_output=True,
                          timeout=TIMEOUT, check=True).stdout
    facts = json.loads(said)
    assert facts["device"] == ["reset", "platform"] and "config" not in facts
    assert facts["compatible"] == ["outboard,probe-2", "outboard,probe"]
    assert [r["name"] for r in facts["regions"]] == ["registers", "sparse", "whole", "memory",
                                                     "rom", "sink"]
    assert [i["name"] for i in facts["interrupts"]] == ["level", "edge-0", "edge-1", "other"]
    text = subprocess.run([OUTBOARD, "inspect", server.socket], capture_output=True, text=True,
                          timeout=TIMEOUT, check=True).stdout
    assert "Compatible: outboard,probe-2 outboard,probe\n" in text
    assert [line.split()[:2] for line in text.splitlines() if " size " in line and "area" not in line] \
        == [[str(i), name] for i, name in enumerate(["registers", "sparse", "whole", "memory", "rom",
                                                     "sink"])]


def test_buses_in_the_capabilities():
    for device, buses in ("serial", ["pci", "platform"]), ("edu", ["pci"]), ("rtc", ["platform"]):
        done = subprocess.run([OUTBOARD, "serve", device, "--print-capabilities"],
                              capture_output=True, timeout=TIMEOUT, check=True)
        said = json.loads(done.stdout)
        assert said["buses"] == buses and ("bus" in said["options"]) == (len(buses) > 1)


# ---- Regions ------------------------------------------------------------------------------------


def test_registers(c):
    assert c.get32(REGISTERS, Probe.ID) == Probe.ID_VALUE
    c.set32(REGISTERS, Probe.SCRATCH, 0x12345678)
    assert c.get32(REGISTERS, Probe.SCRATCH) == 0x12345678


@pytest.mark.parametrize("region, offset, size", [
    (REGISTERS, 0, 1), (REGISTERS, 0, 8), (REGISTERS, 2, 4), (REGISTERS, 4096, 4),
    (REGISTERS, 4094, 4), (REGISTERS, 0xfffffffffffffffc, 4), (ROM, 33, 1), (ROM, 32, 2),
    (ROM, 0, 34), (SPARSE, 0xfff, 2), (SPARSE, 0x5fff, 2), (SPARSE, 0x2000, 0x2001),
    (WHOLE, 0x3fff, 2), (WHOLE, 0x4000, 1), (MEMORY, 1 << 20, 1), (SINK, 0, 1), (SINK, 0, 8)])
def test_reads_that_are_refused(c, region, offset, size):
    with refused(errno.EINVAL):
        c.read(region, offset, size)


@pytest.mark.parametrize("region, offset, size", [
    (REGISTERS, 0, 2), (REGISTERS, 6, 4), (REGISTERS, 4096, 4), (REGISTERS, 1 << 63, 4), (ROM, 0, 1),
    (ROM, 32, 1), (SINK, 0, 4), (SINK, 4, 8), (SINK, 8, 1), (SPARSE, 0xfff, 2), (WHOLE, 0x3fff, 2)])
def test_writes_that_are_refused(c, region, offset, size):
    with refused(errno.EINVAL):
        c.write(region, offset, bytes(size))


def test_widths_and_ends(c):
    assert c.read(ROM, 0, 33) == bytes(i ^ 0x55 for i in range(33))
    c.write(SINK, 7, b"x")
    assert (c.get32(REGISTERS, Probe.TRAPPED_AT), c.get32(REGISTERS, Probe.TRAPPED_SIZE)) == (7, 1)
    c.write(SINK, 0, bytes(8))
    assert (c.get32(REGISTERS, Probe.TRAPPED_AT), c.get32(REGISTERS, Probe.TRAPPED_SIZE)) == (0, 8)
    c.write(MEMORY, (1 << 20) - 3, b"end")
    assert c.read(MEMORY, (1 << 20) - 3, 3) == b"end"
    c.read(ROM, 33, 0)  # nothing, at the very end


def test_areas(c):
    (_, _, _, size, offset), _, fds = c.region_info(SPARSE, 4096)
    with mmap.mmap(fds[0], size) as m:
        c.write(SPARSE, 0x1ffe, b"ab")
        assert m[offset + 0x1ffe:offset + 0x2000] == b"ab"
        m[0x5000:0x5003] = b"xyz"
        assert c.read(SPARSE, 0x5000, 3) == b"xyz"
        c.write(SPARSE, 0x6000, b"?")  # beside them: the device's own
    assert c.get32(REGISTERS, Probe.TRAPPED_AT) == 0x6000
    os.close(fds[0])


def test_memory_of_a_whole_region(c):
    _, _, fds = c.region_info(WHOLE, 4096)
    with mmap.mmap(fds[0], 0x4000) as m:
        m[0x100:0x104] = b"peek"
        c.set32(REGISTERS, Probe.PEEK_AT, 0x100)
        assert c.read(REGISTERS, Probe.PEEK, 4) == b"peek"
    os.close(fds[0])


def test_failed_write_changes_nothing(c):
    events = [Event() for _ in range(4)]
    for index, event in enumerate(events):
        c.set_irqs(index, DATA_EVENTFD | TRIGGER, fds=[event])
    c.set32(REGISTERS, Probe.SCRATCH, 7)
    with refused(errno.ENOSPC):
        c.set32(REGISTERS, Probe.FAIL, errno.ENOSPC)
    assert c.get32(REGISTERS, Probe.SCRATCH) == 7
    assert [event.count() for event in events] == [0] * 4


# ---- Interrupts ---------------------------------------------------------------------------------


def listen(c, index):
    event = Event()
    c.set_irqs(index, DATA_EVENTFD | TRIGGER, fds=[event])
    return event


def test_irq_info(c):
    for index in range(4):
        edge = index in (EDGE_0, EDGE_1)
        assert c.irq_info(index) == (EVENTFD | (0 if edge else MASKABLE | AUTOMASKED), 1)


def test_level(c):
    event = listen(c, LEVEL)
    c.set32(REGISTERS, Probe.INTX, 1)
    assert event.count() == 1
    c.set32(REGISTERS, Probe.INTX, 0)
    c.set32(REGISTERS, Probe.INTX, 1)
    assert event.count() == 0  # it has masked itself
    c.set_irqs(LEVEL, DATA_NONE | UNMASK)
    assert event.count() == 1  # and is still asserted
    c.set_irqs(LEVEL, DATA_BOOL | UNMASK, data=b"\1")
    assert event.count() == 1
    c.set32(REGISTERS, Probe.INTX, 0)
    c.set_irqs(LEVEL, DATA_NONE | UNMASK)
    assert event.count() == 0


def test_level_masked_by_the_client(c):
    event = listen(c, LEVEL)
    c.set_irqs(LEVEL, DATA_NONE | MASK)
    c.set32(REGISTERS, Probe.INTX, 1)
    assert event.count() == 0
    c.set_irqs(LEVEL, DATA_BOOL | UNMASK, data=b"\0")
    assert event.count() == 0
    c.set_irqs(LEVEL, DATA_NONE | UNMASK)
    assert event.count() == 1


def test_eventfds_of_mask_and_unmask(c):
    event, masked, unmask = listen(c, LEVEL), Event(), Event()
    c.set_irqs(LEVEL, DATA_EVENTFD | MASK, fds=[masked])
    c.set_irqs(LEVEL, DATA_EVENTFD | UNMASK, fds=[unmask])
    c.set_irqs(OTHER, DATA_EVENTFD | UNMASK, fds=[Event()])  # another line's is another one
    c.set32(REGISTERS, Probe.INTX, 1)
    assert (event.count(), masked.count()) == (1, 1)
    unmask.signal()
    assert event.wait() == 1 and masked.wait() == 1
    c.set_irqs(LEVEL, DATA_EVENTFD | UNMASK)  # without a descriptor: taken away
    unmask.signal()
    assert c.is_silent() and event.count() == 0


def test_level_is_told_to_who_comes_later(c):
    c.set32(REGISTERS, Probe.INTX, 1)
    assert listen(c, LEVEL).count() == 1
    other = listen(c, OTHER)
    assert other.count() == 0


def test_edges(c):
    events = [listen(c, index) for index in (EDGE_0, EDGE_1)]
    for _ in range(3):
        c.set32(REGISTERS, Probe.MESSAGE, 1)
    assert [event.count() for event in events] == [0, 3]
    c.set32(REGISTERS, Probe.MESSAGE, 0)
    assert [event.count() for event in events] == [1, 0]
    c.set_irqs(EDGE_0, DATA_NONE | TRIGGER, count=0)
    c.set32(REGISTERS, Probe.MESSAGE, 0)
    assert events[0].count() == 0
    assert listen(c, EDGE_0).count() == 0  # an edge is no level: it is gone


@pytest.mark.parametrize("flags, options", [
    (DATA_NONE | MASK, {}), (DATA_NONE | UNMASK, {}), (DATA_BOOL | MASK, {"data": b"\1"}),
    (DATA_EVENTFD | MASK, {"fds": 1}), (DATA_EVENTFD | UNMASK, {"fds": 1})])
def test_an_edge_is_not_maskable(c, flags, options):
    event = listen(c, EDGE_0)
    if "fds" in options:
        options = {"fds": [Event()]}
    with refused(errno.EINVAL):
        c.set_irqs(EDGE_0, flags, **options)
    c.set32(REGISTERS, Probe.MESSAGE, 0)
    assert event.count() == 1


@pytest.mark.parametrize("start, count", [(1, 1), (0, 2), (0xffffffff, 1), (1, 0xffffffff)])
def test_one_interrupt_an_index(c, start, count):
    for flags in DATA_NONE | TRIGGER, DATA_NONE | MASK:
        with refused(errno.EINVAL):
            c.set_irqs(LEVEL, flags, start, count)


def test_trigger_by_the_client(c):
    event = listen(c, EDGE_1)
    c.set_irqs(EDGE_1, DATA_NONE | TRIGGER)
    c.set_irqs(EDGE_1, DATA_BOOL | TRIGGER, data=b"\0")
    assert event.count() == 1


def test_only_eventfds(c):
    with refused(errno.EINVAL):
        c.set_irqs(LEVEL, DATA_EVENTFD | TRIGGER, fds=[memory_file(4096)])


def test_reset(c):
    event = listen(c, LEVEL)
    c.set32(REGISTERS, Probe.SCRATCH, 5)
    c.set32(REGISTERS, Probe.INTX, 1)
    c.set_irqs(EDGE_0, DATA_NONE | TRIGGER)
    c.reset()
    assert (c.get32(REGISTERS, Probe.SCRATCH), c.get32(REGISTERS, Probe.RESETS)) == (0, 1)
    assert event.count() == 1
    c.set32(REGISTERS, Probe.INTX, 1)  # the line was lowered, and the mask is gone
    assert event.count() == 1


def test_next_client(serve, connect):
    server = serve(str(PROBE), "bus=platform")
    first = connect(server)
    old = listen(first, LEVEL)
    first.set32(REGISTERS, Probe.INTX, 1)
    assert old.count() == 1
    first.close()
    second = when_free(lambda: connect(server))
    assert listen(second, LEVEL).count() == 1 and old.count() == 0


# ---- DMA ----------------------------------------------------------------------------------------


def test_dma_needs_no_leave(c, memory):
    fd = memory(0x2000)
    os.pwrite(fd, b"guest", 0x1000)
    c.map(0x10000, 0x2000, fd)
    assert probe_dma(c, Probe.READ, 0x11000, 0, 5) == 0
    assert c.read(MEMORY, 0, 5) == b"guest"
    c.write(MEMORY, 0x100, b"device")
    assert probe_dma(c, Probe.WRITE, 0x10002, 0x100, 6) == 0
    assert os.pread(fd, 6, 2) == b"device"
    assert probe_dma(c, Probe.READ, 0x12000, 0, 1) == errno.EFAULT


def test_dma_by_messages(c):
    c.map(0x10000, 0x1000)
    probe_start(c, Probe.READ, 0x10010, 0, 3)
    m = c.receive_command()
    assert m.command == DMA_READ and struct.unpack("=QQ", m.body) == (0x10010, 3)
    c.reply_to(m, m.body + b"abc")
    assert c.read(MEMORY, 0, 3) == b"abc" and probe_result(c) == (1, 0)
