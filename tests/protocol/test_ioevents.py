"""DEVICE_GET_REGION_IO_FDS: descriptors that stand for writes."""

import collections
import errno
import os
import struct

import pytest

from devices import Probe
from raw import (BAR0, BAR1, BAR2, BAR3, BAR5, CONFIG, GET_REGION_INFO, GET_REGION_IO_FDS,
                 capabilities, refused)

DATAMATCH, PIO = 1, 2
VALUES = [1, 0x10, 0x100]  # of the doorbell that may be signalled

Sub = collections.namedtuple("Sub", "offset size fd_index type flags padding datamatch")


class Fds:
    """The reply for one region. Its descriptors are closed with it."""

    fds = ()

    def __init__(self, c, index, argsz=4096, flags=0, count=0):
        m = c.call(GET_REGION_IO_FDS, struct.pack("=IIII", argsz, flags, index, count))
        self.argsz, flags, echoed, self.count = struct.unpack("=IIII", m.body[:16])
        assert (flags, echoed) == (0, index) and len(m.body) == 16 + 40 * self.count
        self.sub = [Sub(*struct.unpack("=QQIIIIQ", m.body[16 + 40 * i:56 + 40 * i]))
                    for i in range(self.count)]
        self.fds = m.fds

    def __del__(self):
        for fd in self.fds:
            os.close(fd)

    def signal(self, i, n=1):
        os.eventfd_write(self.fds[self.sub[i].fd_index], n)


@pytest.fixture
def c(probe, connect):
    return connect(probe)


def rung(c, times):
    """Waits until the doorbell was written so often; the sum of what was."""
    while c.get32(BAR0, Probe.RUNG) < times:
        pass
    assert c.get32(BAR0, Probe.RUNG) == times
    return c.get32(BAR0, Probe.SUM)


def test_what_there_is(c):
    f = Fds(c, BAR0)
    assert f.argsz == 16 + 3 * 40 and len(f.fds) == 3
    assert f.sub == [Sub(Probe.DOORBELL, 4, i, 0, DATAMATCH, 0, value)
                     for i, value in enumerate(VALUES)]


def test_ports_and_any_value(c):
    f = Fds(c, BAR1)
    assert f.sub == [Sub(8, 2, 0, 0, PIO, 0, 0)]
    f.signal(0)
    while c.read(BAR1, 8, 2) != b"\xef\xbe":
        pass


@pytest.mark.parametrize("index", [BAR2, BAR5, CONFIG, 9])
def test_regions_that_have_none(c, index):
    f = Fds(c, index)
    assert (f.argsz, f.count, f.fds) == (16, 0, [])


@pytest.mark.parametrize("index", [BAR3, 6, 8, 40, 0xffffffff])
def test_no_such_region(c, index):
    with refused(errno.EINVAL):
        Fds(c, index)
    assert Fds(c, BAR0).count == 3


@pytest.mark.parametrize("argsz", [16, 17, 56, 135])
def test_without_the_room(c, argsz):
    f = Fds(c, BAR0, argsz)
    assert (f.argsz, f.count, f.fds) == (136, 0, [])
    assert Fds(c, BAR0, f.argsz).count == 3


@pytest.mark.parametrize("argsz, flags", [(15, 0), (0, 0), (4096, 1), (4096, 1 << 31)])
def test_bad_requests(c, argsz, flags):
    with refused(errno.EINVAL):
        Fds(c, BAR0, argsz, flags)


@pytest.mark.parametrize("count", [1, 3, 0xffffffff])
def test_the_count_of_a_request_means_nothing(c, count):
    f = Fds(c, BAR0, count=count)
    assert f.argsz == 16 + 3 * 40 and f.count == len(f.fds) == 3


def test_no_other_flags(c):
    for index in range(9):
        if index not in (BAR3, 6, 8):
            assert all(sub.flags in (0, DATAMATCH, PIO, DATAMATCH | PIO) for sub in Fds(c, index).sub)


@pytest.mark.parametrize("limit", [1, 2])
def test_no_more_descriptors_than_the_client_takes(probe, connect, limit):
    c = connect(probe, version=capabilities(max_msg_fds=limit))
    f = Fds(c, BAR0)
    assert f.count == len(f.fds) == limit


def test_signals_become_writes(c):
    f = Fds(c, BAR0)
    f.signal(0)
    assert rung(c, 1) == 1
    f.signal(1)
    assert rung(c, 2) == 0x11
    c.set32(BAR0, Probe.DOORBELL, 0x10)  # a message does the same, as before
    assert rung(c, 3) == 0x21
    f.signal(0, 1000)                    # several become one
    assert rung(c, 4) == 0x22


def test_a_signalled_write_that_fails(c, probe):
    f = Fds(c, BAR0)
    f.signal(2)
    while "signalled write" not in probe.log.read_text():
        pass
    f.signal(0)
    assert rung(c, 1) == 1  # nothing of the other is left


def test_asked_for_twice(c):
    """The same ones, and one signal is one write."""
    f, g = Fds(c, BAR0), Fds(c, BAR0)
    f.signal(0)
    assert rung(c, 1) == 1
    g.signal(0)
    assert rung(c, 2) == 2


def test_a_client_that_clears_the_counter_itself(c):
    f = Fds(c, BAR0)
    for fd in f.fds:
        os.set_blocking(fd, True)  # the flag is shared with the server
    for _ in range(200):
        f.signal(0)
        os.set_blocking(f.fds[0], False)
        try:
            os.eventfd_read(f.fds[0])
        except BlockingIOError:
            pass
        os.set_blocking(f.fds[0], True)
    assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE


def test_they_end_with_their_client(probe, connect, c):
    """What the last one kept does not reach the next one's device."""
    f = Fds(c, BAR0)
    f.signal(0)
    assert rung(c, 1) == 1
    c.close()
    c = connect(probe)
    f.signal(0)
    f.signal(1)
    g = Fds(c, BAR0)
    g.signal(0)
    assert rung(c, 2) == 2
    assert c.get32(BAR0, Probe.RUNG) == 2


def test_after_a_reset(c):
    f = Fds(c, BAR0)
    f.signal(0)
    assert rung(c, 1) == 1
    c.reset()
    f.signal(1)
    assert rung(c, 1) == 0x10


def test_descriptors_in_order_with_others(c):
    """Replies with different descriptors, pipelined."""
    c.send(GET_REGION_INFO, struct.pack("=IIIIQQ", 4096, 0, BAR2, 0, 0, 0), id=1)
    c.send(GET_REGION_IO_FDS, struct.pack("=IIII", 4096, 0, BAR0, 0), id=2)
    c.send(GET_REGION_IO_FDS, struct.pack("=IIII", 4096, 0, BAR1, 0), id=3)
    counts = []
    for id in 1, 2, 3:
        m = c.receive()
        assert m.id == id
        counts.append(len(m.fds))
        for fd in m.fds:
            os.close(fd)
    assert counts == [1, 3, 1]
