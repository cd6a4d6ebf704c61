"""Workers die, and their clients do not notice: the keeper, and what a successor finds."""

import contextlib
import errno
import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time
from pathlib import Path

import pytest

import raw
from control import Control
from devices import MORTAL, PROBE, Edu
from program import OUTBOARD, child, links, serving
from raw import memory_file, refused

PAGE = 4096

BAR0 = 0
NUMBER, DIE, TIMER, EXIT, TRANSFER, KILLED, KILL = 0, 4, 8, 12, 24, 28, 32


def kill(server):
    """Kills the worker; true once another one is there."""
    pid = server.pid
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + raw.TIMEOUT
    while server.pid == pid:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def wait_for(condition):
    deadline = time.monotonic() + raw.TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def serve_ordinary():
    """serve(), of devices of a user whose limits hold."""
    prefix = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=-all"] * (os.geteuid() == 0)
    if subprocess.run([*prefix, OUTBOARD, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("this build is not for everybody to see")
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as start:  # pytest closes its own
        folder = Path(name)
        folder.chmod(0o777)

        def serve(device):
            (folder / f"{device}0").mkdir()
            (folder / f"{device}0").chmod(0o777)  # where its socket is made
            server = start(device, prefix=prefix)
            server.prefix = prefix
            return server

        yield serve


@pytest.fixture
def mortal(serve):
    return serve(str(MORTAL))


def test_state_and_session_stay(serve, connect):
    server = serve("edu")
    c = connect(server)
    c.set32(BAR0, Edu.LIVENESS, 0x12345678)
    for _ in range(5):
        kill(server)
        assert c.get32(BAR0, Edu.LIVENESS) == 0x12345678 ^ 0xffffffff
    assert server.log.read_text().count("killed by signal 9") == 5


def test_memory_and_interrupts_stay(serve, connect):
    """A transfer in both directions and the interrupts of it, with a death before each."""
    server = serve("edu")
    c = connect(server)
    memory = memory_file(16 * PAGE)
    os.pwrite(memory, b"before the deaths", 4096)
    c.map(0x10000, 16 * PAGE, memory)
    c.bus_master()
    event = raw.Event()
    c.set_irqs(0, raw.DATA_EVENTFD | raw.TRIGGER, fds=[event.fileno()])
    for source, destination, command in [(0x11000, Edu.BUFFER, Edu.RUN | Edu.IRQ),
                                         (Edu.BUFFER, 0x12000, Edu.RUN | Edu.TO_RAM | Edu.IRQ)]:
        kill(server)
        c.write(BAR0, Edu.SOURCE, struct.pack("=Q", source))
        c.write(BAR0, Edu.DESTINATION, struct.pack("=Q", destination))
        c.write(BAR0, Edu.COUNT, struct.pack("=Q", 17))
        c.write(BAR0, Edu.COMMAND, struct.pack("=Q", command))
        kill(server)
        event.wait()
        kill(server)
        c.set32(BAR0, Edu.ACKNOWLEDGE, c.get32(BAR0, Edu.IRQ_STATUS))
        c.set_irqs(0, raw.DATA_NONE | raw.UNMASK)
    assert os.pread(memory, 17, 0x2000) == b"before the deaths"


def test_requests_wait(serve, connect):
    """What is sent while there is no worker is answered, once and in order."""
    server = serve("edu")
    c = connect(server)
    for n in range(20):
        os.kill(server.pid, signal.SIGKILL)
        for i in range(50):
            c.set32(BAR0, Edu.LIVENESS, n * 100 + i)
            assert c.get32(BAR0, Edu.LIVENESS) == (n * 100 + i) ^ 0xffffffff
    assert c.is_silent()


def test_many_in_flight(serve, connect):
    server = serve("edu")
    c = connect(server)
    for _ in range(10):
        ids = [c.send(raw.REGION_READ, struct.pack("=QII", Edu.ID, BAR0, 4)) for _ in range(200)]
        os.kill(server.pid, signal.SIGKILL)
        for id in ids:
            c.check(c.receive(), raw.REGION_READ, id)
    assert c.is_silent()


def test_a_client_that_has_not_said_who_it_is(serve, connect):
    server = serve("edu")
    c = connect(server, version=None)
    kill(server)
    c.negotiate()
    assert c.get32(BAR0, Edu.ID) == 0x010000ed


def test_clients_come_while_there_is_no_worker(serve, connect):
    server = serve("edu")
    for _ in range(10):
        os.kill(server.pid, signal.SIGKILL)
        connect(server).close()


def test_client_goes_while_there_is_no_worker(serve, connect):
    """Its memory and interrupts are not left with anybody."""
    server = serve(str(PROBE))
    connect(server).close()
    held = lambda: [link for link in links(server.keeper) if "memfd:guest" in link]
    for _ in range(5):
        c = connect(server)
        c.map(0, PAGE, memory_file(PAGE))
        os.kill(server.pid, signal.SIGKILL)
        c.close()
        wait_for(lambda: not held())
    connect(server)


def test_message_that_kills_is_refused(mortal, connect):
    c = connect(mortal)
    c.set32(BAR0, NUMBER, 77)
    for _ in range(3):
        with refused(errno.EIO):
            c.set32(BAR0, DIE, 1)
        assert c.get32(BAR0, NUMBER) == 77
    log = mortal.log.read_text()
    assert log.count("it is refused") == 3
    if "waited for too long" not in log:  # on a machine that takes its time to die
        assert log.count("the worker was killed by") + log.count("the worker ended with") == 9
        assert log.count("3 workers died of one message") == 3


def test_message_that_ends_the_worker_is_refused(mortal, connect):
    c = connect(mortal)
    for status in 0, 1, 42:
        with refused(errno.EIO):
            c.set32(BAR0, EXIT, status)
    c.set32(BAR0, NUMBER, 5)
    assert c.get32(BAR0, NUMBER) == 5


def test_killing_message_among_others(mortal, connect):
    c = connect(mortal)
    write = lambda at, value: c.send(raw.REGION_WRITE, struct.pack("=QIII", at, BAR0, 4, value))
    ids = [write(NUMBER, 1), write(NUMBER, 2), write(DIE, 0), write(NUMBER, 3)]
    errors = []
    for id in ids:
        reply = c.receive()
        assert reply.id == id
        errors.append(reply.error)
    assert errors == [0, 0, errno.EIO, 0]
    assert c.get32(BAR0, NUMBER) == 3


def test_a_transfer_before_the_message_that_kills(mortal, connect):
    """It is under way when the message is refused, and its end is for the device, not for who refuses."""
    c = connect(mortal)
    c.map(0x10000, PAGE, memory_file(PAGE))
    c.bus_master()
    write = lambda at, value: raw.message(raw.REGION_WRITE, struct.pack("=QIII", at, BAR0, 4, value))
    worker = mortal.pid
    os.kill(worker, signal.SIGSTOP)
    c.send_bytes(write(TRANSFER, 0x10000) + write(DIE, 0))
    os.kill(worker, signal.SIGCONT)
    assert [c.receive().error, c.receive().error] == [0, errno.EIO]
    wait_for(lambda: c.get32(BAR0, TRANSFER) == 1)


def test_timer_that_kills_fails_the_device(mortal, connect):
    c = connect(mortal)
    c.set32(BAR0, NUMBER, 1)
    c.set32(BAR0, TIMER, 10)
    wait_for(lambda: c.get32(BAR0, NUMBER) == 0xffffffff)
    c.set32(BAR0, DIE, 1)  # nothing runs any more that could die
    assert c.get32(BAR0, NUMBER) == 0xffffffff
    assert "no worker gets on: the device has failed" in mortal.log.read_text()
    c.close()
    assert connect(mortal).get32(BAR0, NUMBER) == 0xffffffff


def test_kills_from_outside_are_no_faults(serve, connect):
    """However many in a row: neither a message nor the device is given up."""
    server = serve("edu")
    c = connect(server)
    for _ in range(12):
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGKILL)
        time.sleep(0.001)
    c.set32(BAR0, Edu.LIVENESS, 1)
    assert c.get32(BAR0, Edu.LIVENESS) == 0xfffffffe
    assert "refused" not in server.log.read_text() and "failed" not in server.log.read_text()


def test_faults_with_a_life_between(mortal, connect):
    """Not a device that has failed, though there are many in the end."""
    c = connect(mortal)
    for number in range(10):
        if number == 5:
            time.sleep(5.5)
        os.kill(mortal.pid, signal.SIGSEGV)
        wait_for(lambda: mortal.log.read_text().count("another worker goes on") == number + 1)
        c.set32(BAR0, NUMBER, number)
        assert c.get32(BAR0, NUMBER) == number


def lasting(serve, connect, ms):
    """A client of a device of which no worker gets ready for so long."""
    server = serve(str(MORTAL), options=["--sandbox=off"])  # else they could not do that to themselves
    c = connect(server)
    c.set32(BAR0, KILLED, ms)
    os.kill(server.pid, signal.SIGKILL)
    return server, c


def test_no_worker_gets_ready(serve, connect):
    """What waits is refused in time, all of it, by one that does without the device; and deaths are not many."""
    server, c = lasting(serve, connect, 3600000)
    ids = [c.send(raw.REGION_READ, struct.pack("=QII", NUMBER, BAR0, 4)) for _ in range(30)]
    for id in ids:
        reply = c.receive()
        assert (reply.id, reply.error, reply.body) == (id, errno.EIO, b"")
    with refused(errno.EIO):
        c.set32(BAR0, NUMBER, 5)
    log = server.log.read_text()
    assert "messages that wait are refused" in log and "failed" not in log
    assert log.count("killed by signal 9") < 250  # though nobody waited for long after each


def test_a_message_in_which_workers_are_killed(serve, connect):
    """As if there were no memory for it: it is refused, and what comes behind it is not."""
    server = serve(str(MORTAL), options=["--sandbox=off"])
    c = connect(server)
    ids = [c.send(raw.REGION_WRITE, struct.pack("=QIII", at, BAR0, 4, 7)) for at in (KILL, NUMBER)]
    replies = [c.receive() for _ in ids]
    assert [(r.id, r.error) for r in replies] == list(zip(ids, [errno.EIO, 0]))
    assert c.get32(BAR0, NUMBER) == 7
    assert "workers die in one message, which has waited for too long" in server.log.read_text()


def test_a_worker_gets_ready_after_all(serve, connect):
    _, c = lasting(serve, connect, 3000)
    with refused(errno.EIO):
        c.set32(BAR0, NUMBER, 5)

    def works():
        with contextlib.suppress(raw.Refused):
            c.set32(BAR0, NUMBER, 6)
            return True
        return False

    wait_for(works)
    assert c.get32(BAR0, NUMBER) == 6


def limit(server, **limits):
    """Of the keeper, and of workers to come: soft ones."""
    user = getattr(server, "prefix", [])
    words = [f"--{name}={value}:" for name, value in limits.items()]
    subprocess.run([*user, "prlimit", "--pid", str(server.keeper), *words], check=True)


@pytest.mark.slow  # a sanitizer needs more of everything
@pytest.mark.parametrize("mib", [3, 14, 20], ids=["for the program", "for the device", "for its state"])
def test_memory_that_comes_back(serve, connect, mib):
    """Workers that cannot begin for want of it are no faults of the device."""
    server = serve("edu")
    c = connect(server)
    limit(server, **{"as": mib << 20})
    os.kill(server.pid, signal.SIGKILL)
    id = c.send(raw.REGION_READ, struct.pack("=QII", Edu.ID, BAR0, 4))
    wait_for(lambda: server.log.read_text().count("the worker ") > 14)
    limit(server, **{"as": "unlimited"})
    reply = c.receive()
    assert reply.id == id and reply.error in (0, errno.EIO)  # that, if it was too late for an answer
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    assert "failed" not in server.log.read_text()


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_processes_that_come_back(serve_ordinary, connect, long):
    """While none can be made, nobody can answer; nor does anybody give up."""
    server = serve_ordinary("edu")
    c = connect(server)
    space = os.readlink(f"/proc/{server.pid}/ns/pid")
    limit(server, nproc=0)
    os.kill(server.pid, signal.SIGKILL)
    id = c.send(raw.REGION_READ, struct.pack("=QII", Edu.ID, BAR0, 4))
    wait_for(lambda: "cannot start a worker: Resource temporarily unavailable" in server.log.read_text())
    if long:
        time.sleep(3)
    limit(server, nproc=500)
    reply = c.receive()
    assert reply.id == id and (reply.error, reply.body) == (errno.EIO, b"") if long else reply.error in (0, errno.EIO)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    log = server.log.read_text()
    assert log.count("cannot start a worker") == 1 and "PID namespace" not in log
    ours = os.readlink("/proc/self/ns/pid")
    assert (os.readlink(f"/proc/{server.pid}/ns/pid") == ours) == (space == ours)


def test_keeper_killed(serve, connect):
    server = serve("edu")
    c = connect(server)
    c.set32(BAR0, Edu.LIVENESS, 5)
    worker = server.pid
    os.kill(server.keeper, signal.SIGKILL)
    server.process.wait()
    wait_for(lambda: "the keeper has died" in server.log.read_text())
    assert c.get32(BAR0, Edu.LIVENESS) == 5 ^ 0xffffffff
    c.map(0, PAGE, memory_file(PAGE))
    c.close()
    wait_for(lambda: not os.path.exists(f"/proc/{worker}/exe"))
    server.socket.unlink()


@pytest.mark.parametrize("had_client", [False, True])
def test_keeper_killed_without_a_client(serve, connect, had_client):
    """Nobody could come to the worker any more: it ends."""
    server = serve("edu")
    if had_client:
        connect(server).close()
    worker = server.pid
    os.kill(server.keeper, signal.SIGKILL)
    server.process.wait()
    wait_for(lambda: not os.path.exists(f"/proc/{worker}/exe"))
    assert "the keeper has died" in server.log.read_text()
    server.socket.unlink()


def test_keeper_killed_between_two_workers(serve, connect):
    """The client's connection ends: nobody holds it."""
    server = serve("edu")
    c = connect(server)
    os.kill(server.keeper, signal.SIGSTOP)
    os.kill(server.pid, signal.SIGKILL)
    os.kill(server.keeper, signal.SIGKILL)
    server.process.wait()
    assert c.is_closed()
    server.socket.unlink()


def test_the_same_file_though_its_path_leads_elsewhere(serve, tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(1 << 20))
    server = serve("nvme", f"file={path}")
    path.rename(tmp_path / "moved")
    path.write_bytes(b"x" * 5)
    kill(server)
    subprocess.run([OUTBOARD, "inspect", server.socket], check=True, capture_output=True, timeout=60)
    open_files = links(server.pid)
    assert str(tmp_path / "moved") in open_files and str(path) not in open_files


def line_of(server, kind, tmp_path):
    """The other end of a serial port's line, as a file object without a buffer."""
    if kind == "pty":
        wait_for(lambda: "serial: /dev/pts/" in server.log.read_text())
        path = server.log.read_text().split("serial: ")[1].split()[0]
        return open(path, "r+b", buffering=0)
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(tmp_path / "line"))
    return line.makefile("rwb", buffering=0)


@pytest.mark.parametrize("kind", ["pty", "unix"])
def test_line_stays(serve, connect, tmp_path, kind):
    """Who is at the other end of a serial port stays there, and gets each byte once."""
    server = serve("serial", "path=pty" if kind == "pty" else f"path=unix:{tmp_path}/line")
    c = connect(server)
    line = line_of(server, kind, tmp_path)
    c.write(BAR0, 2, b"\x01")  # FIFOs
    c.write(BAR0, 4, b"\x03")  # ready to receive
    wait_for(lambda: c.read(BAR0, 6, 1)[0] & 0x80)  # carrier
    for n in range(10):
        c.write(BAR0, 0, bytes([65 + n]))
        os.kill(server.pid, signal.SIGKILL)
        line.write(bytes([97 + n]))
        assert line.read(1) == bytes([65 + n])
        wait_for(lambda: c.read(BAR0, 5, 1)[0] & 1)
        assert c.read(BAR0, 0, 1) == bytes([97 + n])
    assert not c.read(BAR0, 5, 1)[0] & 1
    line.close()


def test_one_connection(connect):
    """--fd with a connection: its end is the end of keeper and worker."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([OUTBOARD, "serve", "edu", f"--fd={theirs.fileno()}"],
                               pass_fds=[theirs.fileno()])
    theirs.close()
    c = connect(ours)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    c.close()
    assert process.wait(timeout=20) == 0


def test_ends_with_its_worker(mortal):
    worker = mortal.pid
    mortal.stop()
    assert not os.path.exists(f"/proc/{worker}")


class Unread:
    """A standard error that takes nothing more, until somebody reads."""

    def __init__(self, kind):
        self.kind = kind
        if kind == "socket":
            ends = socket.socketpair()
            self.reader, self.writer = (end.detach() for end in ends)
        else:
            self.reader, self.writer = os.openpty() if kind == "terminal" else os.pipe()

    def fill(self):
        if self.kind == "terminal":
            termios.tcflow(self.writer, termios.TCOOFF)  # Ctrl-S
            return
        flags = fcntl.fcntl(self.writer, fcntl.F_GETFL)
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        for size in 4096, 1:
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(self.writer, b"x" * size)
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags)

    def read(self):
        """All that is there now."""
        if self.kind == "terminal":
            termios.tcflow(self.writer, termios.TCOON)
        said = b""
        while select.select([self.reader], [], [], 0.1)[0]:
            said += os.read(self.reader, 1 << 16)
        return said.decode()

    def close(self):
        os.close(self.reader)
        os.close(self.writer)


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_a_log_that_nobody_reads(tmp_path, connect, kind):
    """Workers that die have successors, all the same. What was lost is told when somebody reads."""
    log = Unread(kind)
    ready, ready_fd = os.pipe()
    keeper = child([OUTBOARD, "serve", str(MORTAL), f"--socket-path={tmp_path}/s", f"--control-path={tmp_path}/c",
                    f"--ready-fd={ready_fd}"], pass_fds=[ready_fd], stderr=log.writer)
    try:
        os.close(ready_fd)
        assert os.read(ready, 1)
        c = connect(tmp_path / "s")
        c.set32(BAR0, NUMBER, 6)
        log.fill()
        for number in range(1, 5):
            with Control(tmp_path / "c") as k:
                os.kill(k.status().worker, signal.SIGKILL)
            c.set32(BAR0, NUMBER, number)
            with Control(tmp_path / "c") as k:
                assert k.status().killed == number
        with refused(errno.EIO):
            c.set32(BAR0, EXIT, 1)
        said = log.read()  # and perhaps more comes just now
        with Control(tmp_path / "c") as k:
            os.kill(k.status().worker, signal.SIGKILL)
        assert c.get32(BAR0, NUMBER) == 4
        said = (said + log.read()).replace("\r", "")
        assert re.search(r"outboard: mortal: lines that nobody read are lost: \d+\n", said), said
        assert "the worker was killed by signal 9" in said
    finally:
        keeper.terminate()
        assert keeper.wait(20) == 0
        os.close(ready)
        log.close()


@pytest.mark.slow  # of no interest with sanitizers
def test_keeper_is_small(serve):
    server = serve("edu")
    for line in Path(f"/proc/{server.keeper}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            assert int(line.split()[1]) < 512
