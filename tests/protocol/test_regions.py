"""REGION_READ, REGION_WRITE and REGION_WRITE_MULTI."""

import errno
import struct

import pytest

from devices import Edu, Probe
from raw import (BAR0, BAR1, BAR2, BAR3, BAR4, BAR5, CONFIG, INTX, MSI, REGION_READ, REGION_WRITE,
                 REGION_WRITE_MULTI, ROM, VGA, DATA_EVENTFD, TRIGGER, Event, refused)

U64 = (1 << 64) - 1


def test_widths_that_a_device_allows(edu, connect):
    c = connect(edu)
    assert c.read(BAR0, Edu.ID, 4) == b"\xed\0\0\1"
    c.write(BAR0, Edu.SOURCE, struct.pack("=Q", 0x1122334455667788))
    assert c.read(BAR0, Edu.SOURCE, 8) == struct.pack("=Q", 0x1122334455667788)
    for n in 1, 2, 3, 5, 6, 7, 12, 16, 64, 4096:
        with refused(errno.EINVAL):
            c.read(BAR0, 0, n)
        with refused(errno.EINVAL):
            c.write(BAR0, 0, bytes(n))
    for at in 1, 2, 3, 5, 0x81:
        with refused(errno.EINVAL):
            c.read(BAR0, at, 4)
    with refused(errno.EINVAL):
        c.read(BAR0, 0x84, 8)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 32])
def test_any_width_where_none_is_declared(probe, connect, n):
    c = connect(probe)
    data = bytes(range(1, n + 1))
    for at in range(0, 33 - n, 5):
        c.write(BAR1, 0, bytes(32))
        c.write(BAR1, at, data)
        assert c.read(BAR1, at, n) == data
        assert c.read(BAR1, 0, 32) == (bytes(at) + data).ljust(32, b"\0")


@pytest.mark.parametrize("region, size", [(BAR1, 32), (BAR2, 0x4000), (BAR5, 1 << 20), (CONFIG, 4096)])
def test_the_ends_of_a_region(probe, connect, region, size):
    c = connect(probe)
    for at, n in (size, 1), (size - 1, 2), (size - 4, 8), (0, size + 1), (size + 4096, 4), \
                 (1 << 32, 4), (1 << 63, 4), (U64, 1), (U64 - 3, 4), (U64 - 2, 4), (U64 - 3, 8):
        n = min(n, 65536)
        if at == 0 and size >= 65536:
            continue
        with refused(errno.EINVAL):
            c.read(region, at, n)
        with refused(errno.EINVAL):
            c.write(region, at, bytes(n))
    assert len(c.read(region, size - 1, 1)) == 1
    assert len(c.read(region, size - 8, 8)) == 8


@pytest.mark.parametrize("region", [BAR3, ROM, VGA, 11, 255, 0x80000000, 0xffffffff])
def test_regions_that_are_not_there(probe, connect, region):
    c = connect(probe)
    with refused(errno.EINVAL):
        c.read(region, 0, 4)
    with refused(errno.EINVAL):
        c.write(region, 0, bytes(4))


def test_no_bytes(probe, connect):
    c = connect(probe)
    assert c.read(BAR5, 0, 0) == b""
    assert c.read(BAR5, 1 << 20, 0) == b""
    c.write(BAR5, 5, b"")
    with refused(errno.EINVAL):
        c.read(BAR5, (1 << 20) + 1, 0)
    for region in BAR3, 6, 8, 12, 0xffffffff:  # and none of no region
        with refused(errno.EINVAL):
            c.read(region, 0, 0)
        with refused(errno.EINVAL):
            c.write(region, 0, b"")


@pytest.mark.parametrize("count, data", [(4, 3), (4, 5), (3, 4), (0, 1), (1, 0), (65536, 4),
                                         (0xffffffff, 4), (0xfffffffc, 0)])
def test_count_and_data_must_agree(probe, connect, count, data):
    c = connect(probe)
    c.write(BAR5, 0, b"before")
    with refused(errno.EINVAL):
        c.call(REGION_WRITE, struct.pack("=QII", 0, BAR5, count) + b"x" * data)
    with refused(errno.EINVAL):
        c.call(REGION_READ, struct.pack("=QII", 0, BAR5, 4) + b"x" * (data or 1))
    assert c.read(BAR5, 0, 6) == b"before"


@pytest.mark.parametrize("length", range(0, 16, 3))
def test_requests_that_are_too_short(edu, connect, length):
    c = connect(edu)
    for command in REGION_READ, REGION_WRITE:
        with refused(errno.EINVAL):
            c.call(command, bytes(length))
    assert c.get32(BAR0, Edu.ID) == 0x010000ed


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EAGAIN, errno.EPERM])
def test_a_failing_write_changes_nothing(probe, connect, error):
    """The device had already changed its state, raised an interrupt and set a timer."""
    c = connect(probe)
    intx, msi = Event(), Event()
    c.set_irqs(INTX, DATA_EVENTFD | TRIGGER, fds=[intx])
    c.set_irqs(MSI, DATA_EVENTFD | TRIGGER, fds=[msi])
    c.set32(BAR0, Probe.SCRATCH, 1)
    c.write(BAR5, 0, b"as it was")
    with refused(error):
        c.set32(BAR0, Probe.FAIL, error)
    assert c.get32(BAR0, Probe.SCRATCH) == 1
    assert c.get32(BAR0, Probe.FAIL) == 0
    assert c.read(BAR5, 0, 9) == b"as it was"
    assert c.get16(CONFIG, 6) & 8 == 0  # INTx is not asserted
    assert intx.count() == 0 and msi.count() == 0
    c.set32(BAR0, Probe.TIMER + 4, 1)  # another timer, later than the first would be
    msi.count()
    while c.get32(BAR0, Probe.TICKS + 4) == 0:
        pass
    assert c.get32(BAR0, Probe.TICKS) == 0


# ---- Several writes in one message --------------------------------------------------------------


def test_write_multi(probe, connect):
    c = connect(probe)
    c.write_multi((BAR0, Probe.SCRATCH, b"\1\0\0\0"))
    c.write_multi((BAR0, Probe.SCRATCH, b"\2\0\0\0"), (BAR1, 3, b"abc"), (BAR5, 70, b"12345678"),
                  (BAR2, 9, b"z"), (CONFIG, 0x3c, b"\7"), (BAR1, 4, b"B"))
    assert c.get32(BAR0, Probe.SCRATCH) == 2
    assert c.read(BAR1, 3, 3) == b"aBc"  # in order
    assert c.read(BAR5, 70, 8) == b"12345678"
    assert c.read(BAR2, 9, 1) == b"z"
    assert c.read(CONFIG, 0x3c, 1) == b"\7"


def test_as_many_as_a_message_holds(probe, connect):
    c = connect(probe)
    n = (65536 - 8) // 24
    c.write_multi(*[(BAR5, i * 8, struct.pack("=Q", i)) for i in range(n)])
    assert c.read(BAR5, 0, n * 8) == b"".join(struct.pack("=Q", i) for i in range(n))


@pytest.mark.parametrize("bad, error", [
    ((BAR5, 1 << 20, b"x"), errno.EINVAL), ((BAR3, 0, b"x"), errno.EINVAL),
    ((BAR0, 2, b"\0\0\0\0"), errno.EINVAL), ((77, 0, b"x"), errno.EINVAL),
    ((BAR0, Probe.FAIL, struct.pack("=I", errno.EIO)), errno.EIO)])
@pytest.mark.parametrize("where", [0, 2, 4])
def test_a_bad_one_among_several_changes_nothing_for_the_others(probe, connect, bad, error, where):
    """They may be of different processors of the guest. The reply has the error."""
    c = connect(probe)
    c.write(BAR5, 0, b"........")
    writes = [(BAR5, 0, b"1"), (BAR1, 0, b"22"), (BAR5, 5, b"333"), (BAR0, Probe.SCRATCH, b"4444")]
    writes.insert(where, bad)
    with refused(error):
        c.write_multi(*writes)
    assert c.read(BAR5, 0, 8) == b"1....333"
    assert c.read(BAR1, 0, 2) == b"22"
    assert c.read(BAR0, Probe.SCRATCH, 4) == b"4444"


def test_the_first_error_is_the_replys(probe, connect):
    c = connect(probe)
    fail = [(BAR0, Probe.FAIL, struct.pack("=I", error)) for error in (errno.EIO, errno.ENXIO)]
    with refused(errno.EIO):
        c.write_multi((BAR1, 0, b"a"), *fail, (BAR1, 1, b"b"))
    c.write_multi((BAR1, 2, b"c"))
    assert c.read(BAR1, 0, 3) == b"abc"


def test_a_bad_one_among_several_with_a_small_state(edu, connect):
    c = connect(edu)
    c.set32(BAR0, Edu.LIVENESS, 5)
    with refused(errno.EINVAL):
        c.write_multi((BAR0, Edu.LIVENESS, b"\0\0\0\0"), (BAR0, Edu.RAISE, b"\1\0\0\0"),
                      (BAR0, 1 << 20, b"x"))
    assert c.get32(BAR0, Edu.LIVENESS) == 0xffffffff
    assert c.get32(BAR0, Edu.IRQ_STATUS) == 1


@pytest.mark.parametrize("body", [
    b"", bytes(7), struct.pack("=Q", 0), struct.pack("=Q", 1), struct.pack("=Q", 2) + bytes(24),
    struct.pack("=Q", 1) + bytes(25), struct.pack("=Q", 1 << 61) + bytes(24),
    struct.pack("=Q", U64) + bytes(24), struct.pack("=QQII8x", 1, 0, BAR5, 0),
    struct.pack("=QQII8x", 1, 0, BAR5, 9), struct.pack("=QQII8x", 1, 0, BAR5, 0xffffffff),
    struct.pack("=QQII8x", 1, U64 - 1, BAR5, 8)], ids=range(12))
def test_bad_write_multi(probe, connect, body):
    c = connect(probe)
    with refused(errno.EINVAL):
        c.call(REGION_WRITE_MULTI, body)
    assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE
