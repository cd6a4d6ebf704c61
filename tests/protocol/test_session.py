"""A device and its clients: resets, who may come, what a client leaves behind."""

import contextlib
import errno
import os
import socket
import struct
import time

import pytest

import raw
from devices import Edu, Probe
from dma import probe_dma, probe_result, probe_start
from program import links
from raw import (BAR0, BAR2, BAR4, BAR5, CONFIG, DATA_EVENTFD, DATA_NONE, DMA_MAP, ERR,
                 GET_INFO, INTX, MASK, MSI, MSIX,
                 REQ, RESET, SET_IRQS, TRIGGER, UNMASK, VERSION, Event, capabilities,
                 message, refused)

PAGE = 4096


# ---- Reset --------------------------------------------------------------------------------------


def test_reset_puts_the_state_back(probe, connect):
    c = connect(probe)
    config = c.read(CONFIG, 0, 4096)
    c.set32(BAR0, Probe.SCRATCH, 5)
    c.write(BAR5, 100000, b"gone")
    c.set16(CONFIG, 4, 0x0407)
    c.set32(CONFIG, 0x10, 0xfe000000)
    c.set32(BAR4, Probe.TABLE + 16 * 7, 0xfee00000)
    c.set32(BAR0, Probe.INTX, 1)
    c.reset()
    assert c.read(CONFIG, 0, 4096) == config
    assert c.get32(BAR0, Probe.SCRATCH) == 0
    assert c.read(BAR5, 100000, 4) == bytes(4)
    assert c.read(BAR4, Probe.TABLE + 16 * 7, 16) == bytes(12) + b"\1\0\0\0"
    assert c.get32(BAR0, Probe.RESETS) == 1


def test_reset_keeps_what_the_client_set_up(probe, connect, memory):
    c = connect(probe)
    msi, intx = Event(), Event()
    c.set_irqs(MSI, DATA_EVENTFD | TRIGGER, fds=[msi])
    c.set_irqs(INTX, DATA_EVENTFD | TRIGGER, fds=[intx])
    fd = memory(PAGE)
    c.map(0, PAGE, fd)
    c.reset()
    c.bus_master()
    c.write(BAR5, 0, b"still here")
    assert probe_dma(c, Probe.WRITE, 0, 0, 10) == 0
    assert os.pread(fd, 10, 0) == b"still here"
    c.set32(BAR0, Probe.MESSAGE, 0)
    c.set32(BAR0, Probe.INTX, 1)
    assert (msi.count(), intx.count()) == (1, 1)


def test_reset_lowers_intx_and_drops_what_is_pending(probe, connect):
    c = connect(probe)
    intx, message_ = Event(), Event()
    c.set_irqs(INTX, DATA_EVENTFD | TRIGGER, fds=[intx])
    c.set_irqs(MSIX, DATA_EVENTFD | TRIGGER, fds=[message_])
    c.set_irqs(INTX, DATA_NONE | MASK)
    c.set32(BAR0, Probe.INTX, 1)
    c.set32(BAR4, Probe.TABLE + 12, 1)
    c.set32(BAR0, Probe.MESSAGE, 0)
    c.reset()
    assert c.read(BAR4, Probe.PBA, 8) == bytes(8)
    assert c.get16(CONFIG, 6) & 8 == 0
    c.set_irqs(INTX, DATA_NONE | UNMASK)
    c.set_irqs(MSIX, DATA_NONE | UNMASK)
    assert (intx.count(), message_.count()) == (0, 0)
    c.set32(BAR0, Probe.INTX, 1)
    assert intx.count() == 1


def test_reset_stops_timers_and_transfers(probe, connect):
    c = connect(probe)
    c.bus_master()
    c.map(0, PAGE)
    c.set32(BAR0, Probe.TIMER, 60)
    probe_start(c, Probe.READ, 0, 0, 4)
    c.receive_command()
    c.reset()
    assert probe_result(c) == (0, 0)
    c.set32(BAR0, Probe.TIMER + 4, 120)
    while not c.get32(BAR0, Probe.TICKS + 4):
        time.sleep(0.02)
    assert c.get32(BAR0, Probe.TICKS) == 0


def test_reset_of_edu(edu, connect):
    c = connect(edu)
    c.set32(BAR0, Edu.LIVENESS, 0)
    c.set32(BAR0, Edu.FACTORIAL, 5)
    c.set32(BAR0, Edu.RAISE, 3)
    c.reset()
    assert [c.get32(BAR0, at) for at in (Edu.LIVENESS, Edu.FACTORIAL, Edu.STATUS, Edu.IRQ_STATUS)] \
        == [0, 0, 0, 0]


@pytest.mark.parametrize("body", [b"\0", bytes(16)])
def test_reset_has_no_body(probe, connect, body):
    c = connect(probe)
    with refused(errno.EINVAL):
        c.call(RESET, body)
    assert c.get32(BAR0, Probe.RESETS) == 0


def test_many_resets(probe, connect):
    c = connect(probe)
    for i in range(1, 51):
        c.write(BAR5, i << 14, b"x" * 4096)
        c.reset()
        assert c.get32(BAR0, Probe.RESETS) == i


# ---- Timers -------------------------------------------------------------------------------------


def test_timers(probe, connect):
    c = connect(probe)
    event = Event()
    c.set_irqs(MSI, DATA_EVENTFD | TRIGGER, 1, 1, [event])
    c.set32(BAR0, Probe.TIMER, 1)
    c.set32(BAR0, Probe.TIMER, 0xffffffff)  # cancelled
    c.set32(BAR0, Probe.TIMER + 4, 100000)
    c.set32(BAR0, Probe.TIMER + 4, 10)      # earlier after all
    assert event.wait() == 1
    assert [c.get32(BAR0, Probe.TICKS + 4 * i) for i in range(3)] == [0, 1, 0]


# ---- Commands that are not served ---------------------------------------------------------------


@pytest.mark.parametrize("command", [0, 14, 19, 20, 255, 0x8000, 0xffff])
def test_unknown_commands(edu, connect, command):
    c = connect(edu)
    for body in b"", b"x", bytes(4096):
        with refused(errno.ENOTSUP):
            c.call(command, body)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed


# ---- Several clients ----------------------------------------------------------------------------


def test_a_second_client_is_told_at_once(edu, connect):
    c = connect(edu)
    for _ in range(20):
        with raw.Client(edu.socket, version=None) as other:
            with refused(errno.EBUSY):
                other.negotiate()
            assert other.is_closed()
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    c.close()
    connect(edu)


def test_the_next_client_finds_the_state(edu, connect):
    c = connect(edu)
    c.set32(BAR0, Edu.LIVENESS, 7)
    c.set32(BAR0, Edu.RAISE, 1)
    c.set16(CONFIG, 4, 6)
    c.set32(CONFIG, 0x10, 0xfe000000)
    c.close()
    c = connect(edu)
    assert c.get32(BAR0, Edu.LIVENESS) == 0xffffffff ^ 7
    assert c.get32(BAR0, Edu.IRQ_STATUS) == 1
    assert c.get16(CONFIG, 4) == 6
    assert c.get32(CONFIG, 0x10) == 0xfe000000
    event = Event()
    c.set_irqs(INTX, DATA_EVENTFD | TRIGGER, fds=[event])
    assert event.count() == 1  # the wire is still high


def test_the_next_client_inherits_no_rights(probe, connect, memory):
    """Neither memory, nor interrupts, nor masks."""
    c = connect(probe)
    c.bus_master()
    events = [Event() for _ in range(5)]
    for index, event in enumerate(events):
        c.set_irqs(index, DATA_EVENTFD | TRIGGER, fds=[event])
    c.set_irqs(MSIX, DATA_NONE | MASK)
    c.set_irqs(INTX, DATA_EVENTFD | MASK, fds=[events[0]])
    c.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[events[1]])
    fd = memory(PAGE)
    c.map(0, PAGE, fd)
    c.close()

    c = connect(probe)
    for event in events:
        event.count()
    assert probe_dma(c, Probe.WRITE, 0, 0, 4) == errno.EFAULT
    assert c.get32(BAR0, Probe.VECTORS) == 0
    for register in Probe.INTX, Probe.ERROR, Probe.REQUEST:
        c.set32(BAR0, register, 1)
    c.set32(BAR0, Probe.MESSAGE, 0)
    assert [event.count() for event in events] == [0] * 5
    event = Event()
    c.set_irqs(MSIX, DATA_EVENTFD | TRIGGER, fds=[event])
    c.set32(BAR0, Probe.MESSAGE, 0)
    assert event.count() == 1
    c.map(0, PAGE, fd)
    assert probe_dma(c, Probe.WRITE, 0, 0, 4) == 0


def test_a_timer_goes_on_without_a_client(probe, connect):
    c = connect(probe)
    c.set32(BAR0, Probe.TIMER, 10)
    c.close()
    c = connect(probe)
    while not c.get32(BAR0, Probe.TICKS):
        pass
    assert c.get32(BAR0, Probe.TICKS) == 1


def test_many_clients_one_after_the_other(edu, connect):
    for i in range(100):
        with raw.Client(edu.socket) as c:
            assert c.get32(BAR0, Edu.LIVENESS) == (0xffffffff ^ (i - 1) if i else 0)
            c.set32(BAR0, Edu.LIVENESS, i)


def test_limits_are_those_of_each_client(probe, connect):
    """What the one before could take says nothing about this one."""
    with raw.Client(probe.socket, version=capabilities(max_data_xfer_size=4)):
        pass
    c = connect(probe, version=b"")
    c.bus_master()
    c.map(0, PAGE)
    probe_start(c, Probe.READ, 0, 0, 1000)
    assert struct.unpack("=QQ", c.receive_command().body) == (0, 1000)


# ---- Those who are no clients -------------------------------------------------------------------


def test_silence_keeps_nobody_away(edu, connect):
    silent = [raw.Client(edu.socket, version=None) for _ in range(4)]
    half = raw.Client(edu.socket, version=None)
    half.send_bytes(message(VERSION, struct.pack("=HH", 0, 1))[:17])
    c = connect(edu)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    c.close()
    half.send_bytes(message(VERSION, struct.pack("=HH", 0, 1))[17:])
    assert half.receive().error == 0  # it was only slow
    for other in silent:
        other.close()
    half.close()


def test_a_crowd_at_the_door(edu, connect):
    """More than the server has seats for: those who wait longest go."""
    silent = [raw.Client(edu.socket, version=None) for _ in range(40)]
    assert connect(edu).get32(BAR0, Edu.ID) == 0x010000ed
    assert silent[0].is_closed()
    for other in silent:
        other.close()


def test_the_silent_are_let_go(edu, connect):
    """After a while. (Only that it happens is checked, not when.)"""
    silent = raw.Client(edu.socket, version=None)
    assert silent.is_closed()
    assert "sent no version message" in edu.log.read_text()


@pytest.mark.parametrize("garbage", [b"\0", b"x" * 15, b"\0" * 16, b"\xff" * 4096,
                                     b"GET / HTTP/1.1\r\n\r\n", b"\x9d\x31\xc4" * 333],
                         ids=["zero", "short", "zeros", "ones", "http", "noise"])
def test_garbage(edu, connect, garbage):
    c = connect(edu, version=None)
    c.send_bytes(garbage)
    c.socket.shutdown(socket.SHUT_WR)
    assert c.is_closed()
    assert edu.log.read_text().count("\n") == 1
    assert connect(edu).get32(BAR0, Edu.ID) == 0x010000ed


def test_comers_and_goers(edu, connect):
    """A connection that closes at once, one line of log each at most, and never a stuck server."""
    for _ in range(50):
        raw.Client(edu.socket, version=None).close()
    assert connect(edu).get32(BAR0, Edu.ID) == 0x010000ed


def test_descriptors_from_who_is_no_client(edu, connect, memory):
    connect(edu)
    before = len(os.listdir(f"/proc/{edu.pid}/fd"))
    fd = memory(PAGE)
    for _ in range(10):
        c = raw.Client(edu.socket, version=None)
        c.send_bytes(b"some", [fd] * 16)
        c.send_bytes(b"more", [fd])
        c.close()
    wait_until(lambda: len(os.listdir(f"/proc/{edu.pid}/fd")) == before)


def test_the_log_is_bounded(edu, connect):
    """Who provokes line after line gets ten a second."""
    c = connect(edu)
    for _ in range(2000):
        c.send(99)
        c.receive()
    assert edu.log.read_text().count("\n") < 200


# ---- Nothing is left behind ---------------------------------------------------------------------


def wait_until(condition):
    deadline = time.monotonic() + raw.TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def holdings(pid):
    """Open files and mappings of a process, without the addresses (the heap may grow a little)."""
    files = sorted(links(pid))
    with open(f"/proc/{pid}/maps") as maps:
        fields = [line.split(None, 5) for line in maps]
    return files, sorted(f[5].strip() for f in fields if len(f) > 5 and not f[5].startswith("["))


def use_everything(c, fds):
    """A session that takes all that a server holds for its client, and meets errors on the way."""
    events = [Event() for _ in range(80)]
    c.bus_master()
    for at in range(0, 80, 16):
        c.set_irqs(MSIX, DATA_EVENTFD | TRIGGER, at, 16, events[at:at + 16])
    for index in INTX, ERR, REQ:
        c.set_irqs(index, DATA_EVENTFD | TRIGGER, fds=[events[0]])
    c.set_irqs(MSI, DATA_EVENTFD | TRIGGER, 0, 4, events[:4])
    c.set_irqs(INTX, DATA_EVENTFD | MASK, fds=[events[1]])
    c.set_irqs(INTX, DATA_EVENTFD | UNMASK, fds=[events[2]])
    for i, fd in enumerate(fds):
        c.map(i << 20, 4 * PAGE, fd)
        c.map((i << 20) + (1 << 19), PAGE, fd, PAGE)
        assert probe_dma(c, Probe.WRITE, i << 20, 0, 4 * PAGE) == 0
    c.map(1 << 40, 1 << 30)
    for flags, error in (3, errno.EEXIST), (9, errno.EINVAL):
        with refused(error):
            c.call(DMA_MAP, struct.pack("=IIQQQ", 32, flags, 0, 0, PAGE), fds[:1])
    with refused(errno.EINVAL):
        c.call(SET_IRQS, struct.pack("=IIIII", 20, DATA_EVENTFD | TRIGGER, MSI, 0, 4), events[:3])
    for index in BAR2, BAR4:
        for fd in c.region_info(index, 4096)[2]:
            os.close(fd)
    c.unmap(1 << 20, 4 * PAGE)
    c.reset()
    c.bus_master()
    probe_start(c, Probe.READ, 1 << 40, 0, 100)
    c.receive_command()


def test_a_whole_session_leaves_nothing_behind(probe, connect, memory):
    with raw.Client(probe.socket) as c:  # the first use of anything may allocate for good
        use_everything(c, [memory(4 * PAGE) for _ in range(5)])
    connect(probe).close()
    wait_until(lambda: connection_count(probe.pid) == 0)
    before = holdings(probe.pid)
    for _ in range(3):
        with raw.Client(probe.socket) as c:
            use_everything(c, [memory(4 * PAGE) for _ in range(5)])
            assert holdings(probe.pid) != before
        with raw.Client(probe.socket, version=None) as c:
            c.send_bytes(b"x", [memory(PAGE)])
    connect(probe).close()
    wait_until(lambda: connection_count(probe.pid) == 0)
    assert holdings(probe.pid) == before


def connection_count(pid):
    """Sockets of a server, without the one (and its spare) that it listens on."""
    return len({link for link in links(pid) if link.startswith("socket:")}) - 1


def switches(pid):
    with open(f"/proc/{pid}/status") as status:
        return {line.split()[0]: int(line.split()[1]) for line in status if "ctxt_switches" in line}


@pytest.mark.parametrize("situation", ["no client", "a client", "memory and interrupts",
                                       "a silent one"])
def test_idle_is_idle(probe, connect, memory, situation):
    """Not once does the process wake up when there is nothing to do."""
    if situation in ("a client", "memory and interrupts"):
        c = connect(probe)
        if situation != "a client":
            use_everything(c, [memory(4 * PAGE) for _ in range(3)])
            c.set32(BAR0, Probe.INTX, 1)
    elif situation == "a silent one":
        connect(probe, version=None)
    time.sleep(0.05)  # until it sleeps
    before = switches(probe.pid)
    time.sleep(1)
    assert switches(probe.pid) == before


def test_memory_does_not_grow(probe, connect):
    """Thousands of messages of all kinds, and the heap is what it was."""
    c = connect(probe)

    def exercise(n):
        for i in range(n):
            c.map(i << 12, PAGE)
            c.set32(BAR0, Probe.SCRATCH, i)
            c.get32(BAR0, Probe.SCRATCH)
            c.region_info(0)
            c.unmap(i << 12, PAGE)
            with contextlib.suppress(raw.Refused):
                c.call(GET_INFO, b"")

    exercise(50)
    before = private_memory(probe.pid)
    exercise(2000)
    assert private_memory(probe.pid) - before < 64  # KiB


def private_memory(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        return sum(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:"))
