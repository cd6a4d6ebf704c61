"""SET_IRQS in all its forms, and the interrupts that follow."""

import errno
import os
import signal
import struct

import pytest

from devices import Edu, Probe
from raw import (BAR0, BAR4, CONFIG, DATA_BOOL, DATA_EVENTFD, DATA_NONE, ERR, GET_IRQ_INFO,
                 INTX, MASK, MSI, MSIX, REGION_READ, REQ, SET_IRQS, TRIGGER, UNMASK, Event,
                 memory_file, message, refused)

MSIX_CONTROL = 2  # in the capability


def events(n):
    return [Event() for _ in range(n)]


def counts(list_):
    return [event.count() for event in list_]


def listen(c, index, list_, start=0):
    """In batches of what the server takes."""
    for at in range(0, len(list_), 16):
        batch = list_[at:at + 16]
        c.set_irqs(index, DATA_EVENTFD | TRIGGER, start + at, len(batch), batch)


def send(c, vector):
    c.set32(BAR0, Probe.MESSAGE, vector)


def intx(c, level):
    c.set32(BAR0, Probe.INTX, level)


# ---- INTx ---------------------------------------------------------------------------------------


@pytest.fixture
def wired(probe, connect):
    """A client of probe that listens to INTx, and its event."""
    c = connect(probe)
    event = Event()
    listen(c, INTX, [event])
    return c, event


def test_intx_masks_itself(wired):
    c, event = wired
    intx(c, 1)
    assert event.count() == 1
    intx(c, 0)
    intx(c, 1)
    assert event.count() == 0  # nobody has unmasked it
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    assert event.count() == 1  # still asserted
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    assert event.count() == 1  # and again, as long as it is
    intx(c, 0)
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    assert event.count() == 0
    intx(c, 1)
    assert event.count() == 1


def test_intx_mask(wired):
    c, event = wired
    c.set_irqs(INTX, DATA_NONE | MASK)
    intx(c, 1)
    assert event.count() == 0
    c.set_irqs(INTX, DATA_BOOL | UNMASK, data=b"\0")  # not this one
    assert event.count() == 0
    c.set_irqs(INTX, DATA_BOOL | UNMASK, data=b"\1")
    assert event.count() == 1
    intx(c, 0)
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    c.set_irqs(INTX, DATA_BOOL | MASK, data=b"\1")
    c.set_irqs(INTX, DATA_BOOL | MASK, data=b"\0")
    intx(c, 1)
    assert event.count() == 0


def test_intx_unmask_by_eventfd(wired):
    """As KVM's resampling does it: the client signals, and the device may interrupt again."""
    c, event = wired
    unmask = Event()
    c.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[unmask])
    intx(c, 1)
    assert event.count() == 1
    for _ in range(3):
        unmask.signal()
        assert event.wait() == 1
    intx(c, 0)
    c.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[])
    intx(c, 1)
    event.count()
    unmask.signal()  # to nobody
    c.set_irqs(INTX, DATA_NONE | MASK)
    assert event.count() == 0


def test_intx_unmask_event_that_was_signalled_before(wired):
    c, event = wired
    intx(c, 1)
    assert event.count() == 1
    unmask = Event()
    unmask.signal()
    c.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[unmask])
    assert event.wait() == 1


def test_intx_unmask_event_is_replaced(wired):
    c, event = wired
    old, new = Event(), Event()
    c.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[old])
    c.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[new])
    intx(c, 1)
    assert event.count() == 1
    old.signal()
    c.get32(BAR0, Probe.ID)
    assert event.count() == 0
    new.signal()
    assert event.wait() == 1


def test_an_unmask_that_the_client_takes_back(probe, wired):
    """It empties the eventfd, a blocking one, after the server was told and before it reads."""
    c, event = wired
    fd = os.eventfd(0)
    c.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[fd])
    for _ in range(10):
        os.kill(probe.pid, signal.SIGSTOP)
        c.send_bytes(message(REGION_READ, struct.pack("=QII", 0, BAR0, 4), 1) * 2000)
        os.eventfd_write(fd, 1)
        os.kill(probe.pid, signal.SIGCONT)
        c.receive()  # the first of many: the eventfd's turn comes after the last
        try:
            os.preadv(fd, [bytearray(8)], -1, os.RWF_NOWAIT)
        except BlockingIOError:
            pass
        for _ in range(1999):
            c.receive()
    assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE
    os.close(fd)


def test_intx_mask_event(wired):
    """It is signalled whenever INTx gets masked: by itself, or by the client."""
    c, event = wired
    masked = Event()
    c.set_irqs(INTX, DATA_EVENTFD | MASK, fds=[masked])
    intx(c, 1)
    assert (event.count(), masked.count()) == (1, 1)
    c.set_irqs(INTX, DATA_NONE | MASK)  # it is already
    assert masked.count() == 0
    intx(c, 0)
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    c.set_irqs(INTX, DATA_NONE | MASK)
    assert masked.count() == 1
    c.set_irqs(INTX, DATA_EVENTFD | MASK, fds=[])
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    c.set_irqs(INTX, DATA_NONE | MASK)
    assert masked.count() == 0


def test_intx_that_is_asserted_when_somebody_begins_to_listen(probe, connect):
    c = connect(probe)
    intx(c, 1)
    event, other = events(2)
    listen(c, INTX, [event])
    assert event.count() == 1
    listen(c, INTX, [other])
    assert (event.count(), other.count()) == (0, 1)


def test_intx_without_a_listener(wired):
    c, event = wired
    c.set_irqs(INTX, DATA_EVENTFD | TRIGGER, fds=[])
    intx(c, 1)
    assert event.count() == 0
    listen(c, INTX, [event])
    assert event.count() == 1
    c.set_irqs(INTX, DATA_NONE | TRIGGER, count=0)
    intx(c, 0)
    intx(c, 1)
    assert event.count() == 0


# ---- Messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("index, n", [(MSI, 4), (MSIX, 80)])
def test_messages(probe, connect, index, n):
    c = connect(probe)
    list_ = events(n)
    assert c.get32(BAR0, Probe.VECTORS) == 0
    listen(c, index, list_)
    assert c.get32(BAR0, Probe.VECTORS) == n
    for vector in [*range(n), n - 1, 0, n, 0xffffffff]:
        send(c, vector)
    assert counts(list_) == [2, *[1] * (n - 2), 2]


def test_messages_while_messages_are_off(probe, connect):
    c = connect(probe)
    send(c, 0)
    event = Event()
    listen(c, MSI, [event])
    assert event.count() == 0  # lost, not kept
    c.set_irqs(MSI, DATA_NONE | TRIGGER, count=0)
    send(c, 0)
    assert event.count() == 0 and c.get32(BAR0, Probe.VECTORS) == 0


def test_some_vectors_only(probe, connect):
    c = connect(probe)
    list_ = events(3)
    listen(c, MSIX, list_, start=40)
    for vector in range(80):
        send(c, vector)
    assert counts(list_) == [1, 1, 1]
    c.set_irqs(MSIX, DATA_EVENTFD | TRIGGER, 41, 1)  # no descriptor: not any more
    for vector in range(80):
        send(c, vector)
    assert counts(list_) == [1, 0, 1]
    c.set_irqs(MSIX, DATA_EVENTFD | TRIGGER, 0, 80)
    for vector in range(80):
        send(c, vector)
    assert counts(list_) == [0, 0, 0] and c.get32(BAR0, Probe.VECTORS) == 0


def test_an_eventfd_is_replaced(probe, connect):
    c = connect(probe)
    old, new = events(2)
    listen(c, MSI, [old])
    listen(c, MSI, [new])
    send(c, 0)
    assert (old.count(), new.count()) == (0, 1)


def test_one_eventfd_for_all(probe, connect):
    c = connect(probe)
    event = Event()
    listen(c, MSIX, [event] * 80)
    for vector in range(80):
        send(c, vector)
    assert event.count() == 80


def test_from_msi_to_msix(probe, connect):
    c = connect(probe)
    msi, msix = events(2)
    listen(c, MSI, [msi])
    c.set_irqs(MSI, DATA_NONE | TRIGGER, count=0)
    listen(c, MSIX, [msix])
    send(c, 0)
    assert (msi.count(), msix.count()) == (0, 1)


@pytest.mark.parametrize("index, register", [(ERR, Probe.ERROR), (REQ, Probe.REQUEST)])
def test_err_and_req(probe, connect, index, register):
    c = connect(probe)
    event = Event()
    c.set32(BAR0, register, 1)
    listen(c, index, [event])
    c.set32(BAR0, register, 1)
    assert event.count() == 1
    c.set16(CONFIG, msix_control(c), 0xc000)  # which masks all vectors, and nothing else
    c.set32(BAR0, register, 1)
    assert event.count() == 1
    c.set_irqs(index, DATA_NONE | TRIGGER, count=0)
    c.set32(BAR0, register, 1)
    assert event.count() == 0


@pytest.mark.parametrize("index", [INTX, MSI, MSIX, ERR, REQ])
def test_triggered_by_the_client(probe, connect, index):
    c = connect(probe)
    c.set_irqs(index, DATA_NONE | TRIGGER)  # nobody listens
    event = Event()
    listen(c, index, [event])
    c.set_irqs(index, DATA_NONE | TRIGGER)
    assert event.count() == 1
    c.set_irqs(index, DATA_BOOL | TRIGGER, data=b"\0")
    assert event.count() == 0
    c.set_irqs(index, DATA_BOOL | TRIGGER, data=b"\x80")
    assert event.count() == 1


def test_several_triggered_by_the_client(probe, connect):
    c = connect(probe)
    list_ = events(8)
    listen(c, MSIX, list_, start=3)
    c.set_irqs(MSIX, DATA_BOOL | TRIGGER, 2, 9, data=b"\1\0\1\1\0\0\0\0\1")
    assert counts(list_) == [0, 1, 1, 0, 0, 0, 0, 1]
    c.set_irqs(MSIX, DATA_NONE | TRIGGER, 5, 3)
    assert counts(list_) == [0, 0, 1, 1, 1, 0, 0, 0]


def test_an_eventfd_that_is_full(probe, connect):
    """Its counter has no room: the server does not wait for that."""
    c = connect(probe)
    fd = os.eventfd(0)
    os.eventfd_write(fd, (1 << 64) - 2)
    c.set_irqs(MSI, DATA_EVENTFD | TRIGGER, fds=[fd])
    for _ in range(3):
        send(c, 0)
    assert os.eventfd_read(fd) == (1 << 64) - 2
    send(c, 0)
    assert os.eventfd_read(fd) == 1
    os.close(fd)


# ---- Masks of MSI-X -----------------------------------------------------------------------------


@pytest.fixture
def msix(probe, connect):
    c = connect(probe)
    list_ = events(80)
    listen(c, MSIX, list_)
    return c, list_


def pending(c):
    """The vectors whose bits are set in the PBA."""
    bits = int.from_bytes(c.read(BAR4, Probe.PBA, 16), "little")
    return [i for i in range(128) if bits >> i & 1]


def mask_vector(c, vector, masked):
    c.set32(BAR4, Probe.TABLE + 16 * vector + 12, masked)


def msix_control(c):
    at = c.read(CONFIG, 0x34, 1)[0]
    while c.read(CONFIG, at, 1) != b"\x11":
        at = c.read(CONFIG, at + 1, 1)[0]
    return at + MSIX_CONTROL


def test_masked_by_the_table(msix):
    c, list_ = msix
    for vector in 0, 63, 64, 79:
        mask_vector(c, vector, 1)
        send(c, vector)
        send(c, vector)
    send(c, 1)
    assert [i for i in range(80) if list_[i].count()] == [1]
    assert pending(c) == [0, 63, 64, 79]
    mask_vector(c, 63, 1)  # as it is
    assert pending(c) == [0, 63, 64, 79]
    mask_vector(c, 63, 0)
    assert list_[63].count() == 1  # once, however often it was raised
    assert pending(c) == [0, 64, 79]
    for vector in 0, 64, 79:
        mask_vector(c, vector, 0)
    assert [i for i in range(80) if list_[i].count()] == [0, 64, 79]
    assert pending(c) == []


def test_masked_by_the_function(msix):
    c, list_ = msix
    at = msix_control(c)
    c.set16(CONFIG, at, 0xc000)
    for vector in 2, 5, 70:
        send(c, vector)
    assert not any(counts(list_)) and pending(c) == [2, 5, 70]
    mask_vector(c, 5, 1)
    c.set16(CONFIG, at, 0x8000)
    assert [i for i in range(80) if list_[i].count()] == [2, 70]
    assert pending(c) == [5]
    mask_vector(c, 5, 0)
    assert list_[5].count() == 1


def test_masked_by_set_irqs(msix):
    c, list_ = msix
    c.set_irqs(MSIX, DATA_NONE | MASK, 10, 3)
    for vector in range(9, 14):
        send(c, vector)
    assert [i for i in range(80) if list_[i].count()] == [9, 13]
    assert pending(c) == [10, 11, 12]
    c.set_irqs(MSIX, DATA_BOOL | UNMASK, 10, 3, data=b"\1\0\1")
    assert [i for i in range(80) if list_[i].count()] == [10, 12]
    assert pending(c) == [11]


def test_the_table_keeps_what_is_written(msix):
    c, _ = msix
    assert c.get32(BAR4, Probe.TABLE + 12) == 1  # masked, as PCI has it after a reset
    entry = struct.pack("<IIII", 0xfee00000, 1, 0x4021, 0)
    c.write(BAR4, Probe.TABLE + 16 * 79, entry)
    assert c.read(BAR4, Probe.TABLE + 16 * 79, 16) == entry
    c.write(BAR4, Probe.TABLE, entry * 3)
    assert c.read(BAR4, Probe.TABLE + 16, 16) == entry
    c.write(BAR4, Probe.TABLE + 12, b"\1")
    assert c.get32(BAR4, Probe.TABLE + 12) == 1


def test_the_pba_cannot_be_written(msix):
    c, list_ = msix
    mask_vector(c, 1, 1)
    send(c, 1)
    c.write(BAR4, Probe.PBA, bytes(16))
    assert pending(c) == [1]
    c.write(BAR4, Probe.PBA, b"\xff" * 16)
    assert pending(c) == [1]
    mask_vector(c, 1, 0)
    assert sum(counts(list_)) == 1


@pytest.mark.parametrize("at, n", [(Probe.TABLE - 4, 8), (Probe.TABLE + 16 * 80 - 4, 8),
                                   (Probe.PBA - 4, 8), (Probe.PBA + 12, 8),
                                   (Probe.TABLE - 4, 2000)])
def test_half_in_table_or_pba(msix, at, n):
    c, _ = msix
    with refused(errno.EINVAL):
        c.read(BAR4, at, n)
    with refused(errno.EINVAL):
        c.write(BAR4, at, bytes(n))


def test_around_table_and_pba_the_device_answers(msix):
    c, _ = msix
    for at in Probe.TABLE - 4, Probe.TABLE + 16 * 80, Probe.PBA - 4, Probe.PBA + 16:
        assert c.read(BAR4, at, 4) == bytes((at + i & 0xff) ^ 0x55 for i in range(4))


# ---- What is refused ----------------------------------------------------------------------------


def irq_set(flags, index=MSI, start=0, count=1, argsz=20, data=b""):
    return struct.pack("=IIIII", argsz, flags, index, start, count) + data


@pytest.mark.parametrize("body", [
    b"", irq_set(DATA_NONE | TRIGGER)[:19], irq_set(DATA_NONE | TRIGGER, argsz=19),
    irq_set(DATA_NONE | TRIGGER, data=b"\1"),
    irq_set(0), irq_set(DATA_NONE), irq_set(TRIGGER), irq_set(DATA_NONE | DATA_BOOL | TRIGGER),
    irq_set(DATA_NONE | TRIGGER | MASK), irq_set(DATA_NONE | TRIGGER | 64),
    irq_set(0xffffffff), irq_set(DATA_NONE | TRIGGER | 1 << 31),
    irq_set(DATA_NONE | TRIGGER, index=5), irq_set(DATA_NONE | TRIGGER, index=0xffffffff),
    irq_set(DATA_NONE | TRIGGER, start=4), irq_set(DATA_NONE | TRIGGER, start=3, count=2),
    irq_set(DATA_NONE | TRIGGER, count=5), irq_set(DATA_NONE | TRIGGER, start=0xffffffff),
    irq_set(DATA_NONE | TRIGGER, start=0xffffffff, count=0xffffffff),
    irq_set(DATA_NONE | TRIGGER, start=1, count=0xffffffff),
    irq_set(DATA_NONE | TRIGGER, start=1, count=0), irq_set(DATA_NONE | MASK, count=0),
    irq_set(DATA_NONE | UNMASK, count=0),
    irq_set(DATA_BOOL | TRIGGER, count=0), irq_set(DATA_EVENTFD | TRIGGER, count=0),
    irq_set(DATA_BOOL | TRIGGER), irq_set(DATA_BOOL | TRIGGER, data=b"\1\1"),
    irq_set(DATA_BOOL | TRIGGER, count=4, data=b"\1\1\1"),
    irq_set(DATA_EVENTFD | TRIGGER, data=b"\1"), irq_set(DATA_EVENTFD | TRIGGER, data=b"\0\0\0\0"),
    irq_set(DATA_EVENTFD | MASK), irq_set(DATA_EVENTFD | UNMASK),
], ids=range(32))
def test_bad_set_irqs(probe, connect, body):
    c = connect(probe)
    event = Event()
    listen(c, MSI, [event])
    with refused(errno.EINVAL):
        c.call(SET_IRQS, body)
    assert event.count() == 0
    send(c, 0)
    assert event.count() == 1


@pytest.mark.parametrize("flags, count, n", [
    (DATA_EVENTFD | TRIGGER, 1, 2), (DATA_EVENTFD | TRIGGER, 2, 1), (DATA_EVENTFD | TRIGGER, 4, 3),
    (DATA_NONE | TRIGGER, 1, 1), (DATA_NONE | TRIGGER, 0, 1), (DATA_EVENTFD | TRIGGER, 5, 5),
    (DATA_EVENTFD | TRIGGER, 0, 1), (DATA_EVENTFD | TRIGGER, 0x10000001, 1)])
def test_descriptors_that_do_not_fit_the_count(probe, connect, flags, count, n):
    c = connect(probe)
    before = len(os.listdir(f"/proc/{probe.pid}/fd"))
    with refused(errno.EINVAL):
        c.call(SET_IRQS, irq_set(flags, count=count), events(n))
    assert len(os.listdir(f"/proc/{probe.pid}/fd")) == before
    assert c.get32(BAR0, Probe.VECTORS) == 0


@pytest.mark.parametrize("command, body", [(GET_IRQ_INFO, struct.pack("=IIII", 16, 0, 0, 0)),
                                           (REGION_READ, struct.pack("=QII", 0, 0, 4))])
def test_descriptors_where_none_belong(probe, connect, command, body):
    c = connect(probe)
    before = len(os.listdir(f"/proc/{probe.pid}/fd"))
    with refused(errno.EINVAL):
        c.call(command, body, events(3))
    assert len(os.listdir(f"/proc/{probe.pid}/fd")) == before


def write_end():
    ends = os.pipe()
    os.close(ends[0])
    return ends[1]


@pytest.mark.parametrize("make", [
    write_end, lambda: memory_file(4096), lambda: os.open("/dev/null", os.O_RDWR),
    lambda: os.open("/tmp", os.O_RDONLY), lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR)],
    ids=["pipe", "memory", "null", "folder", "file"])
@pytest.mark.parametrize("action", [TRIGGER, MASK, UNMASK])
def test_what_is_no_eventfd(probe, connect, make, action):
    c = connect(probe)
    before = len(os.listdir(f"/proc/{probe.pid}/fd"))
    fd = make()
    with refused(errno.EINVAL):
        c.call(SET_IRQS, irq_set(DATA_EVENTFD | action, INTX), [fd])
    os.close(fd)
    assert len(os.listdir(f"/proc/{probe.pid}/fd")) == before
    intx(c, 1)
    assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE


def test_one_bad_descriptor_among_good_ones(probe, connect):
    """All or nothing: what was set up before stays."""
    c = connect(probe)
    old, new = events(4), events(3)
    listen(c, MSI, old)
    fd = memory_file(4096)
    with refused(errno.EINVAL):
        c.call(SET_IRQS, irq_set(DATA_EVENTFD | TRIGGER, count=4), [*new, fd])
    os.close(fd)
    for vector in range(4):
        send(c, vector)
    assert counts(old) == [1] * 4 and counts(new) == [0] * 3


def test_edu_interrupts(edu, connect):
    """The wire first, a message when messages are on, and the wire again."""
    c = connect(edu)
    wire, msg = events(2)
    listen(c, INTX, [wire])
    c.set32(BAR0, Edu.RAISE, 0x11)
    assert wire.count() == 1 and c.get32(BAR0, Edu.IRQ_STATUS) == 0x11
    c.set32(BAR0, Edu.ACKNOWLEDGE, 0x01)
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    assert wire.count() == 1
    c.set32(BAR0, Edu.ACKNOWLEDGE, 0x10)
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    assert wire.count() == 0
    listen(c, MSI, [msg])
    c.set32(BAR0, Edu.RAISE, 2)
    assert (wire.count(), msg.count()) == (0, 1)


def test_edu_factorial_interrupts(edu, connect):
    c = connect(edu)
    event = Event()
    listen(c, MSI, [event])
    c.set32(BAR0, Edu.STATUS, 0x80)
    c.set32(BAR0, Edu.FACTORIAL, 10)
    assert event.wait() == 1
    assert c.get32(BAR0, Edu.FACTORIAL) == 3628800
    assert c.get32(BAR0, Edu.STATUS) == 0x80
