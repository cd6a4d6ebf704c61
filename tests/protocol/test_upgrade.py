"""outboard upgrade: another build takes a device over from the one that runs, or does not, and then nothing
has happened. The other builds are those of tests/upgrade."""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

import raw
from control import REQUEST, STATUS, UPGRADE, Control
from devices import BUILD, MORTAL, PROBE, Edu, Probe
from program import OUTBOARD, child, links
from raw import memory_file
from test_keeper import kill, line_of, wait_for
from test_migration import edu_write, go, log_report, log_start

PAGE = 4096
BAR0 = 0
F_OFD_GETLK = 36
NEXT = BUILD / "tests/upgrade/outboard-next"
MISFIT = BUILD / "tests/upgrade/outboard-misfit"


@pytest.fixture
def control(tmp_path):
    return tmp_path / "control"


@pytest.fixture
def serve_here(serve, control):
    def start(device, *params):
        return serve(device, *params, options=[f"--control-path={control}"])
    return start


@pytest.fixture
def edu(serve_here):
    return serve_here("edu")


def run_upgrade(where, binary=None):
    argv = [OUTBOARD, "upgrade", str(where)] + ([f"--binary={binary}"] if binary else [])
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def upgrade(where, binary=None):
    """Must succeed. Returns (pause in ms, worker before, worker after)."""
    done = run_upgrade(where, binary)
    assert done.returncode == 0 and not done.stderr, done.stderr
    line, = done.stdout.splitlines()
    pause, before, after = re.search(r"upgraded, pause ([\d.]+) ms, worker (\d+) -> (\d+)$", line).groups()
    return float(pause), int(before), int(after)


def fails(where, binary, *words, status=1):
    """Must fail, with one line that has these words."""
    done = run_upgrade(where, binary)
    assert done.returncode == status and not done.stdout
    line = done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == status, done.stderr
    for word in words:
        assert word in line, line


def in_trouble(tmp_path, kind, build=NEXT):
    path = tmp_path / f"outboard.{kind}"
    shutil.copy(build, path)
    return path


def program_of(server):
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{server.pid}/exe")


def runs(server, binary):
    """Waits until the worker is of this build: one that has just been forked is not yet."""
    wait_for(lambda: program_of(server) == str(binary or OUTBOARD))
    return True


def is_alive(c):
    c.set32(BAR0, Edu.LIVENESS, 0x12345678)
    return c.get32(BAR0, Edu.LIVENESS) == 0x12345678 ^ 0xffffffff


# ---- What works ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [None, NEXT], ids=["same", "next"])
def test_state_and_session_stay(edu, connect, control, binary):
    c = connect(edu)
    c.set32(BAR0, Edu.LIVENESS, 0x55aa55aa)
    c.set16(raw.CONFIG, 4, 6)
    for _ in range(3 if binary is None else 1):
        old = edu.pid
        pause, before, after = upgrade(control, binary)
        assert before == old and after == edu.pid != old and pause < 5000
        assert c.get32(BAR0, Edu.LIVENESS) == 0x55aa55aa ^ 0xffffffff
        assert c.get16(raw.CONFIG, 4) & 7 == 6
    assert runs(edu, binary)
    kill(edu)  # and the next is of the new build too
    assert runs(edu, binary)
    assert c.get32(BAR0, Edu.LIVENESS) == 0x55aa55aa ^ 0xffffffff
    with Control(control) as k:
        s = k.status()
        assert (s.upgrades, s.undone, s.killed) == (1 if binary else 3, 0, 1) and s.upgrade_pause > 0


def test_memory_and_interrupts_stay(edu, connect, control):
    """A transfer in both directions and the interrupts of it, with an upgrade before each."""
    c = connect(edu)
    memory = memory_file(16 * PAGE)
    os.pwrite(memory, b"before the upgrades", 4096)
    c.map(0x10000, 16 * PAGE, memory)
    c.map(0x40000, 16 * PAGE, memory)
    c.unmap(0x40000, 16 * PAGE)
    c.bus_master()
    event = raw.Event()
    c.set_irqs(0, raw.DATA_EVENTFD | raw.TRIGGER, fds=[event.fileno()])
    upgrade(control)
    for source, destination, command in [(0x11000, Edu.BUFFER, Edu.RUN | Edu.IRQ),
                                         (Edu.BUFFER, 0x12000, Edu.RUN | Edu.TO_RAM | Edu.IRQ)]:
        c.write(BAR0, Edu.SOURCE, struct.pack("=Q", source))
        c.write(BAR0, Edu.DESTINATION, struct.pack("=Q", destination))
        c.write(BAR0, Edu.COUNT, struct.pack("=Q", 19))
        c.write(BAR0, Edu.COMMAND, struct.pack("=Q", command))
        event.wait()
        if command == Edu.RUN | Edu.IRQ:
            upgrade(control, NEXT)  # the level, and the mask that came with it, are still there
        c.set32(BAR0, Edu.ACKNOWLEDGE, c.get32(BAR0, Edu.IRQ_STATUS))
        c.set_irqs(0, raw.DATA_NONE | raw.UNMASK)
        assert event.count() == 0
    assert os.pread(memory, 19, 0x2000) == b"before the upgrades"


def test_pending_interrupt_stays(edu, connect, control):
    """What was raised behind a client's mask comes when that goes."""
    c = connect(edu)
    event = raw.Event()
    c.set_irqs(0, raw.DATA_EVENTFD | raw.TRIGGER, fds=[event.fileno()])
    c.set_irqs(0, raw.DATA_NONE | raw.MASK)
    c.set32(BAR0, Edu.RAISE, 1)
    upgrade(control, NEXT)
    assert event.count() == 0
    c.set_irqs(0, raw.DATA_NONE | raw.UNMASK)
    assert event.count() == 1


def test_requests_wait(edu, connect, control):
    """What is sent meanwhile is answered, once and in order."""
    c = connect(edu)
    done = threading.Event()

    def repeat():
        for binary in [None, NEXT]:
            upgrade(control, binary)
        done.set()

    thread = threading.Thread(target=repeat)
    thread.start()
    n = 0
    while not done.is_set():
        ids = [c.send(raw.REGION_READ, struct.pack("=QII", Edu.ID, BAR0, 4)) for _ in range(100)]
        for id in ids:
            c.check(c.receive(), raw.REGION_READ, id)
        n += 1
        c.set32(BAR0, Edu.LIVENESS, n)
        assert c.get32(BAR0, Edu.LIVENESS) == n ^ 0xffffffff
    thread.join()
    assert c.is_silent()


def test_a_transfer_by_messages_goes_on(edu, connect, control):
    """The client was asked for memory, and does not answer before the upgrade."""
    c = connect(edu)
    c.map(0x10000, 16 * PAGE)
    c.bus_master()
    c.write(BAR0, Edu.SOURCE, struct.pack("=Q", 0x11000))
    c.write(BAR0, Edu.DESTINATION, struct.pack("=Q", Edu.BUFFER))
    c.write(BAR0, Edu.COUNT, struct.pack("=Q", 16))
    c.write(BAR0, Edu.COMMAND, struct.pack("=Q", Edu.RUN))
    first = c.receive_command()
    assert first.command == raw.DMA_READ
    upgrade(control, NEXT)
    second = c.receive_command()  # it is asked for again
    assert second.body == first.body
    for command in [first, second]:
        c.reply_to(command, command.body + bytes(range(16)))
    wait_for(lambda: not c.get32(BAR0, Edu.COMMAND) & Edu.RUN)


def test_twin_socket_stays(serve_here, connect, control):
    server = serve_here(str(PROBE))
    c = connect(server, version=raw.capabilities(twin_socket={"supported": True}, max_msg_fds=4))
    assert c.twin
    c.map(0x10000, 16 * PAGE)
    c.bus_master()
    c.set32(BAR0, Probe.SCRATCH, 99)
    upgrade(control)
    assert c.get32(BAR0, Probe.SCRATCH) == 99
    at = Probe.CHANNEL
    for register, value in [(Probe.ADDRESS_LOW, 0x12000), (Probe.ADDRESS_HIGH, 0), (Probe.MEMORY, 0),
                            (Probe.SIZE, 8), (Probe.COMMAND, Probe.READ)]:
        c.set32(BAR0, at + register, value)
    command = c.twin.receive_command()
    assert command.command == raw.DMA_READ and command.body[:8] == struct.pack("=Q", 0x12000)
    c.twin.reply_to(command, command.body + b"ABCDEFGH")
    wait_for(lambda: c.get32(BAR0, at + Probe.DONE))


def test_dirty_log_stays(edu, connect, control):
    c = connect(edu)
    c.map(0, 16 * PAGE, memory_file(16 * PAGE))
    c.bus_master()
    log_start(c)
    edu_write(c, 3 * PAGE)
    upgrade(control, NEXT)
    edu_write(c, 5 * PAGE)
    assert log_report(c, 0, 16 * PAGE) == [3, 5]


@pytest.mark.parametrize("kind", ["pty", "unix"])
def test_line_stays(serve_here, connect, control, tmp_path, kind):
    server = serve_here("serial", "path=pty" if kind == "pty" else f"path=unix:{tmp_path}/line")
    c = connect(server)
    line = line_of(server, kind, tmp_path)
    c.write(BAR0, 2, b"\x01")
    c.write(BAR0, 4, b"\x03")
    wait_for(lambda: c.read(BAR0, 6, 1)[0] & 0x80)
    line.write(b"abc")
    wait_for(lambda: c.read(BAR0, 5, 1)[0] & 1)
    upgrade(control)
    line.write(b"d")
    got = b""
    for _ in range(4):
        wait_for(lambda: c.read(BAR0, 5, 1)[0] & 1)
        got += c.read(BAR0, 0, 1)
    c.write(BAR0, 0, b"z")
    assert got == b"abcd" and line.read(1) == b"z"
    line.close()


def test_one_that_has_not_said_who_it_is(edu, connect, control):
    c = connect(edu, version=None)
    upgrade(control)
    c.negotiate()
    assert is_alive(c)


def test_without_a_client(edu, connect, control):
    upgrade(control, NEXT)
    assert is_alive(connect(edu))


def is_locked(fd):
    """Would a lock on the first byte have to wait?"""
    lock = struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    return struct.unpack("hhqqixxxx", fcntl.fcntl(fd, F_OFD_GETLK, lock))[0] != fcntl.F_UNLCK


def test_a_disk_is_nobody_elses_meanwhile(serve_here, control, tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    serve_here("nvme", f"file={path}")
    fd = os.open(path, os.O_RDWR)
    for binary in [None, NEXT]:
        command = subprocess.Popen([OUTBOARD, "upgrade", control, f"--binary={binary or OUTBOARD}"],
                                   stdout=subprocess.PIPE)
        while command.poll() is None:
            assert is_locked(fd)
        command.stdout.close()
        assert command.returncode == 0 and is_locked(fd)
    os.close(fd)


def test_fifty_times(edu, connect, control):
    """No descriptor, process or memory file is left behind, on either side."""
    c = connect(edu)
    c.map(0x10000, 16 * PAGE, memory_file(16 * PAGE))
    event = raw.Event()
    c.set_irqs(0, raw.DATA_EVENTFD | raw.TRIGGER, fds=[event.fileno()])
    upgrade(control)
    before = len(links(edu.keeper)), len(links(edu.pid))
    for n in range(50):
        c.set32(BAR0, Edu.LIVENESS, n)
        if n % 10 == 0:
            upgrade(control)
            continue
        # Not to wait for a second each time, it dies in that: the upgrade is undone, which must not leak either.
        old = edu.pid
        with Control(control) as k:
            fd = os.open(OUTBOARD, os.O_PATH)
            k.send(REQUEST.pack(UPGRADE, REQUEST.size + 6) + b"/same\0", [fd])
            os.close(fd)
            wait_for(lambda: edu.pid != old)
            assert c.get32(BAR0, Edu.LIVENESS) == n ^ 0xffffffff
            os.kill(edu.pid, signal.SIGKILL)
            assert "first second" in k.receive().why
        assert c.get32(BAR0, Edu.LIVENESS) == n ^ 0xffffffff
    wait_for(lambda: len(links(edu.keeper)) <= before[0] and len(links(edu.pid)) <= before[1])
    c.set32(BAR0, Edu.RAISE, 1)
    assert event.count() == 1


# ---- What does not: nothing has happened -------------------------------------------------------------------


def test_what_is_no_program(edu, connect, control, tmp_path):
    c = connect(edu)
    (tmp_path / "text").write_text("no program\n")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "plain").write_bytes(b"\x7fELF")
    (tmp_path / "plain").chmod(0o644)
    worker = edu.pid
    fails(control, tmp_path / "missing", "missing: No such file")
    fails(control, tmp_path / "text", "text: not a program")
    if os.geteuid() != 0:
        fails(control, tmp_path / "plain", "plain: Permission denied")
    fails(control, tmp_path, "not a program")
    fails(control, "/bin/true", "does not serve the device edu")
    fails(tmp_path / "nobody", None, "no such control socket")
    fails(edu.socket, None, "not a control socket")
    assert edu.pid == worker and is_alive(c)


@pytest.mark.parametrize("script", [
    "echo '{\"device\": null}'", "echo '{\"device\": {}}'", "echo '[1]'", "yes", "kill -9 $$",
    "exec >&-; exec sleep 1000"], ids=["null", "object", "array", "endless", "killed", "silent"])
def test_what_is_another_program(edu, connect, control, tmp_path, script):
    """Whatever it says, or does not say, when it is asked what it serves."""
    c = connect(edu)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    fails(control, program, "does not serve the device edu")
    assert is_alive(c)


def test_the_keeper_checks_too(edu, connect, control, tmp_path):
    """Whatever is sent by another program than ours."""
    c = connect(edu)
    worker = edu.pid
    (tmp_path / "plain").write_bytes(b"\x7fELF")
    (tmp_path / "plain").chmod(0o644)
    (tmp_path / "text").write_text("no program\n")
    (tmp_path / "text").chmod(0o755)

    def send(control, path, fd, size=None):
        packet = REQUEST.pack(UPGRADE, size or REQUEST.size + len(path)) + path
        return control.ask(packet, [] if fd is None else [fd])

    with Control(control) as k:
        for name in ["plain", "."]:
            fd = os.open(tmp_path / name, os.O_PATH)
            answer = send(k, b"/x\0", fd)
            os.close(fd)
            assert answer.result < 0 and answer.why == "not a program"
        fd = os.open(OUTBOARD, os.O_PATH)
        assert send(k, b"/x\0", None).result < 0
        for path in [b"", b"\0", b"/x", b"/x\0y\0", b"/" * 5000 + b"\0"]:
            assert send(k, path, fd).result < 0
        os.close(fd)
        assert edu.pid == worker
        fd = os.open(tmp_path / "text", os.O_PATH)
        answer = send(k, b"/x\0", fd)
        assert answer.result < 0 and "status 127" in answer.why
        os.close(fd)
    assert is_alive(c) and edu.pid != worker


@pytest.mark.parametrize("kind,words", [
    ("exit", ["ended with status 9"]), ("abort", ["killed by signal "]), ("hang", ["not ready in time"]),
    ("soon", ["killed by signal 4 ", "in its first second"]),
    ("stop", ["ended with status 0", "in its first second"])])
def test_trouble(edu, connect, control, tmp_path, kind, words):
    """The old build goes on, also from the state that the new one, which is laid out otherwise, left."""
    c = connect(edu)
    event = raw.Event()
    c.set_irqs(0, raw.DATA_EVENTFD | raw.TRIGGER, fds=[event.fileno()])
    c.set32(BAR0, Edu.LIVENESS, 77)
    held = len(links(edu.keeper))
    fails(control, in_trouble(tmp_path, kind), "not upgraded", *words)
    assert runs(edu, OUTBOARD)
    assert c.get32(BAR0, Edu.LIVENESS) == 77 ^ 0xffffffff
    c.set32(BAR0, Edu.RAISE, 1)
    assert event.count() == 1
    kill(edu)
    assert is_alive(c) and len(links(edu.keeper)) <= held
    with Control(control) as k:
        assert (k.status().upgrades, k.status().undone) == (0, 1)


def test_killed_in_its_first_second(edu, connect, control):
    """What it has done until then counts: registers, a masked level, a transfer that waits for the client."""
    c = connect(edu)
    event = raw.Event()
    c.set_irqs(0, raw.DATA_EVENTFD | raw.TRIGGER, fds=[event.fileno()])
    c.map(0x10000, 16 * PAGE)
    c.bus_master()
    old = edu.pid
    command = subprocess.Popen([OUTBOARD, "upgrade", control, f"--binary={NEXT}"], stderr=subprocess.PIPE)
    wait_for(lambda: edu.pid != old and program_of(edu) == str(NEXT))
    c.set32(BAR0, Edu.LIVENESS, 4711)
    c.set32(BAR0, Edu.RAISE, 2)
    event.wait()
    c.write(BAR0, Edu.SOURCE, struct.pack("=Q", 0x11000))
    c.write(BAR0, Edu.DESTINATION, struct.pack("=Q", Edu.BUFFER))
    c.write(BAR0, Edu.COUNT, struct.pack("=Q", 16))
    c.write(BAR0, Edu.COMMAND, struct.pack("=Q", Edu.RUN))
    read = c.receive_command()
    os.kill(edu.pid, signal.SIGKILL)
    assert command.wait(20) == 1
    assert b"first second" in command.stderr.read()
    command.stderr.close()
    assert runs(edu, OUTBOARD)
    assert c.get32(BAR0, Edu.LIVENESS) == 4711 ^ 0xffffffff and c.get32(BAR0, Edu.IRQ_STATUS) == 2
    c.reply_to(read, read.body + bytes(range(16)))
    wait_for(lambda: not c.get32(BAR0, Edu.COMMAND) & Edu.RUN)
    c.set32(BAR0, Edu.ACKNOWLEDGE, 2)
    c.set_irqs(0, raw.DATA_NONE | raw.UNMASK)
    assert event.count() == 0


def test_older_than_the_state(edu, connect, control):
    c = connect(edu)
    upgrade(control, NEXT)
    fails(control, OUTBOARD, "version 2", "older: 1")
    assert is_alive(c) and runs(edu, NEXT)


def test_no_way_back(edu, connect, control):
    """A build that has not all fields of the old one is refused before it answers anything."""
    c = connect(edu)
    fails(control, MISFIT, "field liveness", "no way back")
    assert is_alive(c) and runs(edu, OUTBOARD)


def test_a_migration_is_under_way(edu, connect, control):
    c = connect(edu)
    worker = edu.pid
    go(c, 1)  # STOP
    fails(control, None, "a migration is under way")
    go(c, 2)  # RUNNING
    assert edu.pid == worker and is_alive(c)


def test_does_not_come_to_rest(serve_here, connect, control, memory):
    """A device that holds guest memory for long."""
    server = serve_here(str(PROBE))
    c = connect(server)
    c.map(0x10000, PAGE, memory(PAGE))
    c.bus_master()
    c.set32(BAR0, Probe.PIN_ADDRESS, 0x10000)
    c.set32(BAR0, Probe.PIN_MS, 4000)
    worker = server.pid
    fails(control, None, "does not come to rest")
    c.set32(BAR0, Probe.SCRATCH, 6)
    assert c.get32(BAR0, Probe.SCRATCH) == 6 and server.pid == worker


def test_a_pin_is_waited_for(serve_here, connect, control, memory):
    server = serve_here(str(PROBE))
    c = connect(server)
    c.map(0x10000, PAGE, memory(PAGE))
    c.bus_master()
    c.set32(BAR0, Probe.PIN_ADDRESS, 0x10000)
    c.set32(BAR0, Probe.PIN_MS, 300)
    upgrade(control)
    c.unmap(0x10000, PAGE)


def test_the_keeper_dies_while_it_comes_to_rest(serve_here, connect, control, memory):
    """There is nobody any more to take over."""
    server = serve_here(str(PROBE))
    c = connect(server)
    c.map(0x10000, PAGE, memory(PAGE))
    c.bus_master()
    c.set32(BAR0, Probe.PIN_ADDRESS, 0x10000)
    c.set32(BAR0, Probe.PIN_MS, 500)
    worker, program = server.pid, os.open(OUTBOARD, os.O_PATH)
    with Control(control) as k:
        path = str(OUTBOARD).encode() + b"\0"
        k.send(REQUEST.pack(UPGRADE, REQUEST.size + len(path)) + path, [program])
        os.close(program)
        k.send(REQUEST.pack(STATUS, REQUEST.size))
        for fd in k.receive().fds:
            os.close(fd)
        os.kill(server.keeper, signal.SIGKILL)
    server.process.wait()
    wait_for(lambda: "the keeper has died" in server.log.read_text())
    c.set32(BAR0, Probe.SCRATCH, 6)
    c.unmap(0x10000, PAGE)  # which waits for the pin
    assert c.get32(BAR0, Probe.SCRATCH) == 6
    c.close()
    wait_for(lambda: not os.path.exists(f"/proc/{worker}/exe"))
    server.socket.unlink()


def test_two_at_once(edu, connect, control):
    c = connect(edu)
    first = subprocess.Popen([OUTBOARD, "upgrade", control], stdout=subprocess.PIPE)
    with Control(control) as k:
        wait_for(lambda: k.status().number == 2)
    fails(control, None, "another upgrade is under way")
    assert first.wait(20) == 0
    first.stdout.close()
    assert is_alive(c)


def test_of_a_failed_device(serve_here, connect, control):
    server = serve_here(str(MORTAL))
    c = connect(server)
    c.set32(BAR0, 8, 10)
    wait_for(lambda: c.get32(BAR0, 0) == 0xffffffff)
    fails(control, None, "the device has failed")


def test_who_asks_goes_away(edu, connect, control):
    """The upgrade is done all the same, and another one after it."""
    c = connect(edu)
    old = edu.pid
    command = subprocess.Popen([OUTBOARD, "upgrade", control, f"--binary={NEXT}"])
    wait_for(lambda: edu.pid != old)
    command.kill()
    command.wait()
    with Control(control) as k:
        wait_for(lambda: k.status().upgrades == 1)
    assert is_alive(c) and runs(edu, NEXT)
    upgrade(control, NEXT)


def test_killed_at_any_moment(edu, connect, control):
    """SIGKILL for whoever is there, at moments all over an upgrade."""
    c = connect(edu)
    for n in range(60):
        c.set32(BAR0, Edu.LIVENESS, n)
        with Control(control) as k:
            fd = os.open(NEXT, os.O_PATH)
            k.send(REQUEST.pack(UPGRADE, REQUEST.size + 6) + b"/next\0", [fd])
            os.close(fd)
            time.sleep(n * 0.0004)
            try:
                os.kill(edu.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            assert c.get32(BAR0, Edu.LIVENESS) == n ^ 0xffffffff
            if k.receive().result == 0:
                break  # it came to nothing: nobody was there to be killed
    assert is_alive(c)
    assert "refused" not in edu.log.read_text()


def test_a_vm_without_devices():
    assert run_upgrade("no-such-vm-here").returncode == 1
    assert run_upgrade("no/such").returncode == 1


def test_usage(edu, control):
    for words in [[], [control, "more"], ["--binary=x"]]:
        done = subprocess.run([OUTBOARD, "upgrade", *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 2


# ---- The keeper itself ---------------------------------------------------------------------------------------


def replace_keeper(where, binary=None):
    argv = [OUTBOARD, "upgrade", str(where), "--keeper"] + ([f"--binary={binary}"] if binary else [])
    return subprocess.run(argv, capture_output=True, text=True, timeout=60)


def test_keeper_is_replaced(edu, connect, control, tmp_path):
    """By a build from elsewhere. It stays the same process; the worker and its client do not notice."""
    shutil.copy(OUTBOARD, tmp_path / "outboard")
    shutil.copy(BUILD / "outboard-keeper", tmp_path / "outboard-keeper")
    c = connect(edu)
    event = raw.Event()
    c.set_irqs(0, raw.DATA_EVENTFD | raw.TRIGGER, fds=[event.fileno()])
    kill(edu)
    assert is_alive(c)
    waiting = connect(edu, version=None)
    worker, held = edu.pid, len(links(edu.keeper))
    with Control(control) as k:
        before = k.status()
        for n in range(3):
            done = replace_keeper(control, tmp_path / "outboard")
            assert done.returncode == 0 and not done.stderr, done.stderr
            assert os.readlink(f"/proc/{edu.keeper}/exe") == str(tmp_path / "outboard-keeper")
            assert edu.pid == worker and is_alive(c)
        assert k.status() == before  # this connection stays too
    wait_for(lambda: len(links(edu.keeper)) <= held)
    for _ in range(3):
        kill(edu)
        assert is_alive(c)
    c.set32(BAR0, Edu.RAISE, 1)
    assert event.count() == 1
    upgrade(control, NEXT)
    assert replace_keeper(control).returncode == 0
    kill(edu)
    assert runs(edu, NEXT) and is_alive(c)
    waiting.close()
    log = edu.log.read_text()
    assert (log.count("killed by signal 9"), log.count("its keeper is another build")) == (5, 4)


def test_keeper_is_replaced_with_one_connection(connect, control):
    """Whose end is the end of all."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([OUTBOARD, "serve", "edu", f"--fd={theirs.fileno()}", f"--control-path={control}"],
                               pass_fds=[theirs.fileno()])
    theirs.close()
    c = connect(ours)
    assert is_alive(c)
    assert replace_keeper(control).returncode == 0
    assert is_alive(c)
    c.close()
    assert process.wait(timeout=20) == 0
    assert not control.exists()


@pytest.mark.parametrize("what", ["missing", "text", "true", "false", "waits"])
def test_a_keeper_that_cannot_take_over(edu, connect, control, tmp_path, what):
    shutil.copy(OUTBOARD, tmp_path / "outboard")
    path = tmp_path / "outboard-keeper"
    if what == "text":
        path.write_text("no program")
        path.chmod(0o755)
    elif what in ("true", "false"):
        shutil.copy(f"/bin/{what}", path)
    elif what == "waits":
        shutil.copy(BUILD / "tests/upgrade/waits", path)
    c = connect(edu)
    keeper_exe, held = os.readlink(f"/proc/{edu.keeper}/exe"), len(links(edu.keeper))
    done = replace_keeper(control, tmp_path / "outboard")
    if what == "missing":  # then the installed one counts, which is not there either
        assert done.returncode == 1
    else:
        assert done.returncode == 1 and "does not take over" in done.stderr
    assert os.readlink(f"/proc/{edu.keeper}/exe") == keeper_exe and is_alive(c)
    kill(edu)
    assert is_alive(c)
    wait_for(lambda: len(links(edu.keeper)) <= held)


def test_rest_that_comes_after_all(edu, connect, control):
    """The keeper that asked for it has given up, and become another: it is no death all the same."""
    c = connect(edu)
    worker = edu.pid
    os.kill(worker, signal.SIGSTOP)
    fails(control, None, "does not answer")
    assert replace_keeper(control).returncode == 0
    os.kill(worker, signal.SIGCONT)
    wait_for(lambda: edu.pid != worker)
    assert is_alive(c)
    with Control(control) as k:
        s = k.status()
        assert s.number == 2 and s.killed + s.crashed + s.ended == 0


def test_a_worker_dies_while_a_keeper_is_tried(edu, connect, control, tmp_path):
    """It has a successor, and the trial is over."""
    shutil.copy(OUTBOARD, tmp_path / "outboard")
    shutil.copy(BUILD / "tests/upgrade/waits", tmp_path / "outboard-keeper")
    c = connect(edu)
    worker = edu.pid
    command = subprocess.Popen([OUTBOARD, "upgrade", control, "--keeper", f"--binary={tmp_path / 'outboard'}"],
                               stderr=subprocess.PIPE, text=True)
    wait_for(lambda: program_of(edu) == str(tmp_path / "outboard-keeper"))
    os.kill(worker, signal.SIGKILL)
    assert "its worker has died meanwhile" in command.communicate(timeout=60)[1]
    assert command.returncode == 1 and is_alive(c)


def test_keeper_during_an_upgrade(edu, connect, control):
    c = connect(edu)
    command = subprocess.Popen([OUTBOARD, "upgrade", control], stdout=subprocess.PIPE)
    with Control(control) as k:
        wait_for(lambda: k.status().number == 2)
    done = replace_keeper(control)
    assert done.returncode == 1 and "under way" in done.stderr
    assert command.wait(20) == 0
    command.stdout.close()
    assert is_alive(c)
