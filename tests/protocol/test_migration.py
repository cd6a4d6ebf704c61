"""Migration: the states of a device, the stream of its state, and the log of pages that it wrote."""

import errno
import os
import socket
import struct
import time

import pytest

from devices import Edu, Probe
from dma import edu_start, edu_dma, edu_running
from devices import PROBE as PROBE_FILE
from raw import (BAR0, BAR4, CONFIG, DATA_EVENTFD, DATA_NONE, DMA_MAP, FEATURE, INTX, MASK, MIG_DATA_READ,
                 MIG_DATA_WRITE, MSI, TIMEOUT, TRIGGER, UNMASK, VERSION, Client, Event, Refused, message,
                 refused, when_free)
from test_serial import LSR, RX, Port

ERROR, STOP, RUNNING, STOP_COPY, RESUMING, P2P, PRE_COPY, PRE_COPY_P2P = range(8)
MIGRATION, DEVICE_STATE, LOG_START, LOG_STOP, LOG_REPORT = 1, 2, 6, 7, 8
GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18
PAGE = 4096


# ---- Features ------------------------------------------------------------------------------------


def feature(c, flags, data=b"", room=None):
    """The data of the reply, which says what it is."""
    argsz = 8 + max(len(data), 65536 - 8 if room is None else room)
    body = c.call(FEATURE, struct.pack("=II", argsz, flags) + data).body
    size, echoed = struct.unpack("=II", body[:8])
    assert size == len(body) and echoed == flags
    return body[8:]


def state(c):
    value, fd = struct.unpack("=Ii", feature(c, GET | DEVICE_STATE))
    assert fd == -1
    return value


def go(c, to):
    data = struct.pack("=Ii", to, -1)
    assert feature(c, SET | DEVICE_STATE, data) == data


def read_data(c, n):
    body = c.call(MIG_DATA_READ, struct.pack("=II", 8 + n, n)).body
    argsz, size = struct.unpack("=II", body[:8])
    assert argsz == len(body) == 8 + size and size <= n
    return body[8:]


def read_all(c, piece=32768):
    data = b""
    while more := read_data(c, piece):
        data += more
    return data


def write_data(c, data, piece=32768):
    for at in range(0, len(data), piece):
        part = data[at:at + piece]
        assert c.call(MIG_DATA_WRITE, struct.pack("=II", 8 + len(part), len(part)) + part).body == b""


def save(c):
    go(c, STOP_COPY)
    return read_all(c)


def load(c, data):
    go(c, RESUMING)
    write_data(c, data)
    go(c, STOP)


def test_what_there_is(edu, connect):
    c = connect(edu)
    assert struct.unpack("=Q", feature(c, GET | MIGRATION)) == (1 | 4,)
    assert state(c) == RUNNING


@pytest.mark.parametrize("number, methods", [
    (MIGRATION, GET), (DEVICE_STATE, GET | SET), (LOG_START, SET), (LOG_STOP, SET), (LOG_REPORT, GET)])
def test_probe(edu, connect, number, methods):
    c = connect(edu)
    for wanted in 0, GET, SET, GET | SET:
        if wanted & ~methods:
            with refused(errno.EINVAL):
                feature(c, PROBE | wanted | number)
            if wanted not in (0, GET | SET):
                with refused(errno.EINVAL):
                    feature(c, wanted | number)
        else:
            assert feature(c, PROBE | wanted | number) == b""
            assert feature(c, PROBE | wanted | number, b"as it was") == b"as it was"
    assert state(c) == RUNNING


@pytest.mark.parametrize("number", [0, 3, 4, 5, 9, 10, 100, 0xffff])
def test_features_that_there_are_not(edu, connect, number):
    c = connect(edu)
    for flags in GET, SET, PROBE, PROBE | GET:
        with refused(errno.ENOTTY):
            feature(c, flags | number)


def without_room(c, flags, data=b"", room=0):
    """The size that the reply to a request names, without the data that there is no room for."""
    argsz = 8 + room
    body = c.call(FEATURE, struct.pack("=II", argsz, flags) + data).body
    needed, echoed = struct.unpack("=II", body)
    assert echoed == flags and needed > argsz
    return needed


def test_a_reply_that_has_no_room(edu, connect):
    c = connect(edu)
    for number in MIGRATION, DEVICE_STATE:
        for room in 0, 7:
            assert without_room(c, GET | number, room=room) == 16
        assert len(feature(c, GET | number, room=8)) == 8
    for argsz in 0, 7:
        with refused(errno.EINVAL):
            c.call(FEATURE, struct.pack("=II", argsz, GET | MIGRATION))


def test_a_report_that_has_no_room(writer):
    log_start(writer)
    edu_write(writer, 0x100000)
    for room in 0, 8, 31:
        assert without_room(writer, GET | LOG_REPORT, struct.pack("=QQQ", 0x100000, PAGE, PAGE), room) == 40
    assert log_report(writer, 0x100000, PAGE) == [0]  # nothing was cleared
    assert log_report(writer, 0x100000, PAGE) == []


@pytest.mark.parametrize("fd", [-1, 0, 77, 2**31 - 1])
def test_what_the_unused_descriptor_says(edu, connect, fd):
    c = connect(edu)
    data = struct.pack("=Ii", STOP, fd)
    assert feature(c, SET | DEVICE_STATE, data) == data
    assert feature(c, GET | DEVICE_STATE) == struct.pack("=Ii", STOP, -1)


@pytest.mark.parametrize("data", [b"", bytes(4), bytes(7), struct.pack("=IiI", STOP, -1, 0)])
def test_a_state_of_the_wrong_size(edu, connect, data):
    c = connect(edu)
    with refused(errno.EINVAL):
        feature(c, SET | DEVICE_STATE, data)
    assert state(c) == RUNNING


# ---- States --------------------------------------------------------------------------------------


def bring(c, to):
    """To a state, whichever way; RESUMING with a whole state in it."""
    if to in (RESUMING, ERROR):
        data = save(c)
        go(c, RESUMING)
        write_data(c, data if to == RESUMING else data[:-1])
        if to == ERROR:
            with refused(errno.EINVAL):
                go(c, STOP)
    else:
        go(c, to)
    assert state(c) == to


VALID = {(a, b) for a in (STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY)
         for b in (STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY)} - {(STOP_COPY, PRE_COPY)}


@pytest.mark.parametrize("start", [ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY])
def test_all_pairs(edu, connect, start):
    c = connect(edu)
    for to in (*range(8), 8, 255, 0xffffffff):
        c.reset()
        assert state(c) == RUNNING
        c.set32(BAR0, Edu.LIVENESS, 0x1234)
        bring(c, start)
        if (start, to) in VALID:
            go(c, to)
            assert state(c) == to
            if to in (RUNNING, PRE_COPY):
                assert c.get32(BAR0, Edu.LIVENESS) == ~0x1234 & 0xffffffff
        else:
            with refused(errno.EINVAL):
                go(c, to)
            assert state(c) == start


def test_a_reset_leads_out_of_all(edu, connect):
    c = connect(edu)
    for start in ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY:
        bring(c, start)
        c.reset()
        assert state(c) == RUNNING
        c.set32(BAR0, Edu.LIVENESS, 1)
        assert c.get32(BAR0, Edu.LIVENESS) == 0xfffffffe


def test_the_next_client_finds_it_running(edu):
    for start in STOP, STOP_COPY, PRE_COPY:
        with Client(edu.socket) as c:
            c.set32(BAR0, Edu.LIVENESS, 1)
            bring(c, start)
        with next_client(edu) as c:
            assert state(c) == RUNNING
            assert c.get32(BAR0, Edu.LIVENESS) == 0xfffffffe
            c.reset()


def test_half_a_state_is_not_left_to_the_next_client(edu):
    for start in ERROR, RESUMING:
        with Client(edu.socket) as c:
            c.set32(BAR0, Edu.LIVENESS, 1)
            bring(c, start)
        with next_client(edu) as c:
            assert state(c) == RUNNING and c.get32(BAR0, Edu.LIVENESS) == 0


@pytest.mark.parametrize("end", [STOP, STOP_COPY])
@pytest.mark.parametrize("begin", [RUNNING, PRE_COPY])
def test_a_device_that_has_moved_is_a_new_one(edu, begin, end):
    """Its state was read to the end: it may run elsewhere, and is not to run twice."""
    with Client(edu.socket) as c:
        c.set32(BAR0, Edu.LIVENESS, 1)
        go(c, begin)
        if begin == PRE_COPY:
            read_all(c)
        save(c)
        go(c, end)
    with next_client(edu) as c:
        assert state(c) == RUNNING and c.get32(BAR0, Edu.LIVENESS) == 0


def test_a_device_that_was_to_move_and_stayed(edu):
    def part(c):  # all that PRE_COPY gives, and all but a byte of the rest
        go(c, PRE_COPY)
        size = len(read_all(c))
        go(c, STOP_COPY)
        size += len(read_all(c))
        go(c, STOP)
        go(c, STOP_COPY)
        assert len(read_data(c, size - 1)) == size - 1

    def ran_again(c):
        save(c)
        go(c, RUNNING)
        go(c, STOP)

    def came_back(c):
        load(c, save(c))

    for how in part, ran_again, came_back:
        with next_client(edu) as c:
            c.reset()
            c.set32(BAR0, Edu.LIVENESS, 1)
            how(c)
        with next_client(edu) as c:
            assert state(c) == RUNNING and c.get32(BAR0, Edu.LIVENESS) == 0xfffffffe, how.__name__


def test_no_transfer_of_the_last_client_comes_to_the_next(edu):
    """It was under way when the device was stopped, and fails: not in the memory of another."""
    def at_once():  # a map that the server finds behind the version
        c = Client(edu.socket, version=None)
        c.send_bytes(message(VERSION, struct.pack("=HH", 0, 1)) +
                     message(DMA_MAP, struct.pack("=IIQQQ", 32, 3, 0, 0x10000, PAGE)))
        for command in VERSION, DMA_MAP:
            c.check(c.receive_reply(), command, 1)
        return c

    for to_ram in False, True:
        with next_client(edu) as c:
            c.map(0x10000, PAGE)  # without a file
            c.bus_master()
            edu_start(c, *((0x10000, Edu.BUFFER) if not to_ram else (Edu.BUFFER, 0x10000)), 64, to_ram=to_ram)
            c.receive_command()
            go(c, STOP)
        with when_free(at_once) as c:
            assert not edu_running(c)
            assert c.is_silent()


def next_client(server):
    return when_free(lambda: Client(server.socket))


# ---- Standing still ------------------------------------------------------------------------------


def test_registers_of_a_device_that_stands_still(edu, connect):
    c = connect(edu)
    go(c, STOP)
    assert c.read(BAR0, Edu.ID, 4) == b"\xff" * 4
    with refused(errno.EBUSY):
        c.set32(BAR0, Edu.LIVENESS, 1)
    with refused(errno.EINVAL):
        c.read(BAR0, Edu.ID, 3)
    c.set16(CONFIG, 4, 2)  # config space answers as ever
    assert c.get16(CONFIG, 4) == 2
    go(c, RUNNING)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    assert c.get16(CONFIG, 4) == 2


def test_what_answers_while_a_device_stands_still(probe, connect):
    """What is no register of the device's own: memory that can be mapped, and the MSI-X table."""
    c = connect(probe)
    go(c, STOP)
    for at in areas(c, BAR4)[0], Probe.TABLE:
        c.set32(BAR4, at, 0x12345678)
        assert c.get32(BAR4, at) == 0x12345678
    assert c.read(BAR0, Probe.ID, 4) == b"\xff" * 4
    with refused(errno.EBUSY):
        c.write_multi((BAR0, Probe.SCRATCH, b"abcd"), (BAR4, Probe.TABLE, b"ABCD"))
    assert c.read(BAR4, Probe.TABLE, 4) == b"ABCD"  # it went on behind the one that was refused


def test_timers_stand_still(edu, connect):
    c = connect(edu)
    c.set32(BAR0, Edu.FACTORIAL, 5)
    go(c, STOP)
    time.sleep(0.05)
    go(c, RUNNING)
    end = time.monotonic() + TIMEOUT
    while c.get32(BAR0, Edu.STATUS) & 1:
        assert time.monotonic() < end
    assert c.get32(BAR0, Edu.FACTORIAL) == 120


def test_interrupts_wait(edu, connect):
    c = connect(edu)
    event = Event()
    c.set32(BAR0, Edu.RAISE, 1)
    c.set_irqs(INTX, TRIGGER | DATA_EVENTFD, fds=[event])
    # The level is high before there is an event to signal.
    event.count()
    c.set_irqs(INTX, UNMASK | DATA_NONE)
    assert event.count() == 1
    go(c, STOP)
    c.set_irqs(INTX, UNMASK | DATA_NONE)
    c.is_silent()
    assert event.count() == 0
    go(c, RUNNING)
    assert event.count() == 1


def test_a_stop_waits_for_pins(probe, connect, memory):
    c = connect(probe)
    c.map(0, 16 * PAGE, memory(16 * PAGE))
    c.bus_master()
    c.set32(BAR0, Probe.PIN_ADDRESS, 0)
    c.set32(BAR0, Probe.PIN_MS, 200)
    started = time.monotonic()
    go(c, STOP)
    assert time.monotonic() - started >= 0.15
    go(c, RUNNING)
    assert c.get32(BAR0, Probe.ID) == Probe.ID_VALUE


# ---- The stream ----------------------------------------------------------------------------------


def test_any_pieces(edu, connect):
    c = connect(edu)
    c.set32(BAR0, Edu.LIVENESS, 7)
    go(c, STOP_COPY)
    whole = read_all(c)
    assert read_data(c, 1) == b""
    for piece in 1, 7, 1000, 65536 - 8:
        go(c, STOP)
        go(c, STOP_COPY)
        n = min(len(whole), 300 * piece)
        got = b""
        while len(got) < n:
            got += read_data(c, piece)
        assert got == whole[:len(got)]
    for piece in 1, 17, 65536 - 8:
        c.reset()
        go(c, RESUMING)
        write_data(c, whole, piece)
        go(c, RUNNING)
        assert c.get32(BAR0, Edu.LIVENESS) == ~7 & 0xffffffff


def test_pre_copy_gives_the_description(edu, connect):
    c = connect(edu)
    go(c, PRE_COPY)
    first = read_all(c)
    assert first[:4] == b"OBMS" and b"liveness" in first
    c.set32(BAR0, Edu.LIVENESS, 9)  # it runs
    assert read_data(c, 100) == b""
    go(c, STOP_COPY)
    rest = read_all(c)
    go(c, RUNNING)
    assert first + rest == save(c)


def test_data_in_other_states(edu, connect):
    c = connect(edu)
    for start in ERROR, STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY:
        bring(c, start)
        if start not in (STOP_COPY, PRE_COPY):
            with refused(errno.EINVAL):
                read_data(c, 1)
        if start != RESUMING:
            with refused(errno.EINVAL):
                write_data(c, b"x")
        c.reset()


def test_data_of_bad_sizes(edu, connect):
    c = connect(edu)
    go(c, STOP_COPY)
    for argsz, size in (8, 1), (65544 + 8, 65545), (0xffffffff, 0xffffffff), (8, 0xfffffff8):
        with refused(errno.EINVAL):
            c.call(MIG_DATA_READ, struct.pack("=II", argsz, size))
    assert read_data(c, 0) == b""
    assert read_data(c, 4) == b"OBMS"


def test_sizes_of_a_write(edu, connect):
    """What a message holds, whatever argsz says."""
    c = connect(edu)
    data = save(c)
    go(c, RESUMING)
    most = 65536 + 4096 - 16 - 8
    for argsz, size, more in (8, 0, b""), (0, 1, data[:1]), (0xffffffff, 2, data[1:3]):
        assert c.call(MIG_DATA_WRITE, struct.pack("=II", argsz, size) + more).body == b""
    for size in 0, 2, 0xfffffff9, 0xffffffff:
        with refused(errno.EINVAL):
            c.call(MIG_DATA_WRITE, struct.pack("=II", 9, size) + b"x")
    write_data(c, data[3:], piece=most)
    go(c, RUNNING)


def test_more_than_can_be_a_state(edu, connect):
    c = connect(edu)
    data = save(c)
    go(c, RESUMING)
    write_data(c, data)
    with refused(errno.E2BIG):
        while True:
            write_data(c, bytes(65000))
    assert state(c) == RESUMING
    with refused(errno.EINVAL):
        go(c, RUNNING)
    assert state(c) == ERROR


def test_another_device_is_refused_early(edu, probe, connect):
    data = save(connect(edu))
    c = connect(probe)
    go(c, RESUMING)
    with refused(errno.EINVAL):
        write_data(c, data)
    assert "the stream is of a device edu, and not probe" in probe.log.read_text()
    with refused(errno.EINVAL):
        go(c, STOP)
    c.reset()


def test_damaged_streams(edu, connect):
    c = connect(edu)
    c.set32(BAR0, Edu.LIVENESS, 1)
    data = save(c)
    for at in (0, 5, 9, 40, 200, len(data) // 2, len(data) - 30, len(data) - 1):
        c.reset()
        c.set32(BAR0, Edu.LIVENESS, 2)
        go(c, RESUMING)
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        try:
            write_data(c, damaged)
        except Refused as refusal:
            assert refusal.errno in (errno.EINVAL, errno.E2BIG)
        with refused(errno.EINVAL):
            go(c, STOP)
        assert state(c) == ERROR


# ---- From one to another -------------------------------------------------------------------------


def test_a_transfer_moves(serve, connect):
    source, to = connect(serve("edu")), connect(serve("edu"))
    source.map(0x10000, PAGE)  # without a file
    source.bus_master()
    edu_start(source, 0x10000, Edu.BUFFER, 64, to_ram=False)
    asked = source.receive_command()
    data = save(source)
    source.reply_to(asked, asked.body[:16] + bytes(64))  # too late, and no harm
    assert source.is_silent()

    load(to, data)
    to.map(0x10000, PAGE)
    assert to.is_silent()
    go(to, RUNNING)
    again = to.receive_command()
    assert struct.unpack("=QQ", again.body[:16]) == (0x10000, 64)
    to.reply_to(again, again.body[:16] + bytes(range(64)))
    assert not edu_running(to)
    edu_start(to, Edu.BUFFER, 0x10000, 64, to_ram=True)
    written = to.receive_command()
    assert written.body[16:80] == bytes(range(64))


def test_interrupts_move(serve, connect):
    source, to = connect(serve("edu")), connect(serve("edu"))
    event = Event()
    source.set_irqs(MSI, TRIGGER | DATA_EVENTFD, fds=[Event()])
    source.set_irqs(MSI, MASK | DATA_NONE)
    source.set32(BAR0, Edu.RAISE, 0x10)  # pending
    data = save(source)
    load(to, data)
    to.set_irqs(MSI, TRIGGER | DATA_EVENTFD, fds=[event])
    assert event.count() == 0
    go(to, RUNNING)
    assert event.count() == 1
    assert to.get32(BAR0, Edu.IRQ_STATUS) == 0x10


def test_a_level_moves(serve, connect):
    source, to = connect(serve("edu")), connect(serve("edu"))
    event = Event()
    source.set32(BAR0, Edu.RAISE, 1)
    load(to, save(source))
    to.set_irqs(INTX, TRIGGER | DATA_EVENTFD, fds=[event])
    go(to, RUNNING)
    assert event.count() == 1
    to.set32(BAR0, Edu.ACKNOWLEDGE, 1)
    to.set_irqs(INTX, UNMASK | DATA_NONE)
    assert event.count() == 0


def test_memory_of_regions_moves(serve, connect):
    source, to = connect(serve(str(PROBE_FILE))), connect(serve(str(PROBE_FILE)))
    source.write(BAR0, Probe.SCRATCH, b"abcd")
    where = [(i, area) for i in range(6) for area in areas(source, i)]
    assert where
    for n, (i, at) in enumerate(where):
        source.write(i, at, struct.pack("=I", 0x1000 + n))
    load(to, save(source))
    go(to, RUNNING)
    assert to.read(BAR0, Probe.SCRATCH, 4) == b"abcd"
    for n, (i, at) in enumerate(where):
        assert to.get32(i, at) == 0x1000 + n


def areas(c, index):
    """Offsets of the parts of a region that can be mapped."""
    info, more, fds = c.region_info(index, 4096)
    for fd in fds:
        os.close(fd)
    if len(more) < 16:
        return []
    return [struct.unpack_from("=QQ", more, at)[0] for at in range(16, len(more) - 15, 16)]


def test_serial_moves_with_its_fifos(serve, tmp_path):
    lines = []

    def open_line(name):
        path = tmp_path / name
        server = serve("serial", f"path=unix:{path}")
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(TIMEOUT)
        line.connect(str(path))
        lines.append(line)
        return Client(server.socket), line

    source, line = open_line("source")
    to, other = open_line("to")
    port = Port(source)
    line.sendall(b"hello from the source")
    port.wait(lambda: port.get(LSR) & 1)
    taken = source.read(BAR0, RX, 1)
    stuck = port.send_until_stuck()  # nobody reads the line
    data = save(source)
    load(to, data)
    go(to, RUNNING)
    port = Port.__new__(Port)
    port.client = to
    got = taken
    while len(got) < len(b"hello from the source"):
        port.wait(lambda: port.get(LSR) & 1)
        got += to.read(BAR0, RX, 1)
    assert got == b"hello from the source"
    sent = b""
    line.settimeout(0.2)
    try:
        while more := line.recv(65536):
            sent += more
    except TimeoutError:
        pass
    other.settimeout(TIMEOUT)
    while len(sent) < len(stuck):
        sent += other.recv(65536)
    assert sent == stuck
    for each in source, to, *lines:
        each.close()


# ---- The log of dirty pages ----------------------------------------------------------------------


def log_start(c, page=PAGE, ranges=()):
    data = struct.pack("=QII", page, len(ranges), 0) + b"".join(struct.pack("=QQ", *r) for r in ranges)
    reply = feature(c, SET | LOG_START, data)
    assert reply[8:] == data[8:]
    return struct.unpack("=Q", reply[:8])[0]


def log_report(c, address, size, page=PAGE):
    """Numbers of the pages that were written."""
    head = struct.pack("=QQQ", address, size, page)
    reply = feature(c, GET | LOG_REPORT, head)
    assert reply[:24] == head
    words = (-(-size // page) + 63) // 64
    assert len(reply) == 24 + 8 * words
    bits = int.from_bytes(reply[24:], "little")
    return [i for i in range(64 * words) if bits >> i & 1]


def edu_write(c, address, size=8):
    edu_dma(c, Edu.BUFFER, address, size, to_ram=True)


@pytest.fixture
def writer(edu, connect, memory):
    c = connect(edu)
    c.map(0x100000, 16 * PAGE, memory(16 * PAGE))
    c.map(0x110000, 16 * PAGE, memory(16 * PAGE))  # the next region begins where that one ends
    c.bus_master()
    return c


def test_log(writer):
    c = writer
    assert log_start(c) == PAGE
    assert log_report(c, 0x100000, 32 * PAGE) == []
    edu_write(c, 0x100000)
    edu_write(c, 0x103ffc)      # two pages
    edu_write(c, 0x10fffc)      # two regions
    assert log_report(c, 0x100000, 32 * PAGE) == [0, 3, 4, 15, 16]
    assert log_report(c, 0x100000, 32 * PAGE) == []
    edu_write(c, 0x102000)
    assert log_report(c, 0x101000, PAGE) == []
    assert log_report(c, 0x101000, 4 * PAGE) == [1]
    edu_dma(c, 0x105000, Edu.BUFFER, 8, to_ram=False)  # a read
    assert log_report(c, 0x100000, 32 * PAGE) == []
    feature(c, SET | LOG_STOP)
    with refused(errno.EINVAL):
        log_report(c, 0x100000, PAGE)


def test_log_of_ranges(writer):
    c = writer
    log_start(c, ranges=[(0x108000, 2 * PAGE), (0x102000, 1)])
    for page in range(16):
        edu_write(c, 0x100000 + page * PAGE)
    assert log_report(c, 0x100000, 16 * PAGE) == [2, 8, 9]


def test_log_in_other_pages(writer):
    c = writer
    assert log_start(c, 4 * PAGE) == 4 * PAGE
    edu_write(c, 0x105000)
    edu_write(c, 0x10c000)
    assert log_report(c, 0x100000, 16 * PAGE, 2 * PAGE) == [2, 3, 6, 7]
    edu_write(c, 0x105000)
    assert log_report(c, 0x100000, 16 * PAGE, 16 * PAGE) == [0]
    edu_write(c, 0x105000)
    # The half of a page that was not asked for stays in the log.
    assert log_report(c, 0x104000, PAGE) == [0]
    assert log_report(c, 0x100000, 8 * PAGE) == [4, 5, 6, 7]
    assert log_report(c, 0x100000, 8 * PAGE) == []


@pytest.mark.parametrize("page, chosen", [(512, PAGE), (1, PAGE), (1 << 21, 1 << 21), (1 << 40, 1 << 30),
                                          (1 << 63, 1 << 30)])
def test_log_page_sizes(writer, page, chosen):
    assert log_start(writer, page) == chosen
    edu_write(writer, 0x101000)
    assert log_report(writer, 0, 1 << 32, 1 << 32) == [0]


def test_log_of_memory_without_a_file(edu, connect):
    c = connect(edu)
    c.map(0x200000, 4 * PAGE)
    c.bus_master()
    log_start(c)
    edu_start(c, Edu.BUFFER, 0x201ffc, 8, to_ram=True)
    m = c.receive_command()
    while m.command == 11:  # a look at the layout
        c.reply_to(m, m.body[:16] + bytes(struct.unpack("=QQ", m.body[:16])[1]))
        m = c.receive_command()
    c.reply_to(m, m.body[:16])
    assert log_report(c, 0x200000, 4 * PAGE) == [1, 2]


def test_log_of_pins(probe, connect, memory):
    c = connect(probe)
    c.map(0, 16 * PAGE, memory(16 * PAGE))
    c.bus_master()
    log_start(c)
    c.set32(BAR0, Probe.PIN_ADDRESS, 3 * PAGE)
    c.set32(BAR0, Probe.PIN_MS, 50)
    assert 3 in log_report(c, 0, 16 * PAGE)  # it may be written just now
    go(c, STOP)                              # which waits for the pin
    assert 3 in log_report(c, 0, 16 * PAGE)
    assert log_report(c, 0, 16 * PAGE) == []


def test_log_mistakes(writer):
    c = writer
    for page, ranges in (0, ()), (3, ()), (4097, ()), (PAGE, [(0, 0)]), (PAGE, [(2**64 - 1, 2)]):
        with refused(errno.EINVAL):
            log_start(c, page, ranges)
    with refused(errno.E2BIG):
        feature(c, SET | LOG_START, struct.pack("=QII", PAGE, 5000, 0))
    for data in b"", bytes(15), struct.pack("=QII", PAGE, 1, 0), struct.pack("=QII", PAGE, 0, 1), \
            struct.pack("=QIIB", PAGE, 0, 0, 0):
        with refused(errno.EINVAL):
            feature(c, SET | LOG_START, data)
    for number in SET | LOG_STOP, GET | LOG_REPORT:
        with refused(errno.EINVAL):
            feature(c, number)
    log_start(c)
    with refused(errno.EINVAL):
        log_start(c)
    edu_write(c, 0x100000)
    for address, size, page in (0, 0, PAGE), (0, PAGE, 0), (0, PAGE, 3), (2**64 - 1, 2, PAGE):
        with refused(errno.EINVAL):
            log_report(c, address, size, page)
    with refused(errno.E2BIG):
        log_report(c, 0, 1 << 40)
    assert log_report(c, 0x100000, PAGE) == [0]  # no refused report has cleared it
    with refused(errno.EINVAL):
        feature(c, SET | LOG_STOP, b"x")
    feature(c, SET | LOG_STOP)


def test_the_longest_report(writer):
    """Its bitmap is all that a message holds."""
    pages = (65536 - 24) // 8 * 64
    assert pages * PAGE == (2 << 30) - (768 << 10)
    log_start(writer)
    edu_write(writer, 0x100000)
    for more, page in (1, PAGE), (1, 1), (2**63 // pages, 1):
        with refused(errno.E2BIG):
            log_report(writer, 0, (pages + 64 * more) * page, page)
    data = struct.pack("=QQQ", 0x100000, pages * PAGE, PAGE)
    bitmap = feature(writer, GET | LOG_REPORT, data, room=65536)[24:]
    assert len(bitmap) == pages // 8 and bitmap[0] == 1 and not any(bitmap[1:])


def test_log_ends_with_its_client(edu):
    with Client(edu.socket) as c:
        log_start(c)
    with next_client(edu) as c:
        with refused(errno.EINVAL):
            log_report(c, 0, PAGE)
        log_start(c)


def test_ranges_that_overlap(writer):
    c = writer
    log_start(c, ranges=[(0x103000, 4 * PAGE), (0x101000, 4 * PAGE), (0x10f000, 2 * PAGE), (0x103000, PAGE)])
    for page in range(32):
        edu_write(c, 0x100000 + page * PAGE)
    assert log_report(c, 0x100000, 32 * PAGE) == [1, 2, 3, 4, 5, 6, 15, 16]
