"""The serial port: its registers by message, and what it is connected to."""

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from program import OUTBOARD, tail
from raw import BAR0, INTX, DATA_EVENTFD, DATA_NONE, TIMEOUT, TRIGGER, UNMASK, Client, Event

# Registers and bits, as <linux/serial_reg.h> names them.
RX = TX = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = range(3, 8)
DLAB, WLEN8 = 0x80, 3
DR, THRE, TEMT = 1, 0x20, 0x40
RDI, THRI, MSI = 1, 2, 8
NO_INT, IIR_THRI, IIR_RDI, IIR_TIMEOUT, IIR_MSI = 0xc1, 0xc2, 0xc4, 0xcc, 0xc0
CTS, DSR, DCD = 0x10, 0x20, 0x80
DDSR, DDCD = 2, 8


class Port:
    """A driver of the port, as simple as one can be."""

    def __init__(self, client, trigger=0x80):
        self.client = client
        self.set(LCR, DLAB | WLEN8)
        self.set(DLL, 1)
        self.set(DLM, 0)
        self.set(LCR, WLEN8)
        self.set(FCR, trigger | 7)
        for register in LSR, RX, IIR, MSR:
            self.get(register)
        self.set(MCR, 0xb)  # last: now input may come

    def get(self, register):
        return self.client.read(BAR0, register, 1)[0]

    def set(self, register, value):
        self.client.write(BAR0, register, bytes([value]))

    def lines(self):
        return self.get(MSR) & 0xf0

    def wait(self, what):
        deadline = time.monotonic() + TIMEOUT
        while not what():
            assert time.monotonic() < deadline, "it did not come to be"

    def can_send(self):
        return self.get(LSR) & THRE

    def send(self, data):
        """In bursts of a FIFO, each without a look in between."""
        for at in range(0, len(data), 16):
            self.wait(self.can_send)
            for byte in data[at:at + 16]:
                self.client.post(BAR0, TX, bytes([byte]))

    def send_until_stuck(self):
        """What the other end takes when it does not read."""
        sent = bytearray()
        while self.can_send():
            burst = bytes((len(sent) + i) % 251 for i in range(16))
            self.send(burst)
            sent += burst
        return bytes(sent)

    def receive(self, n):
        data = bytearray()
        while len(data) < n:
            self.wait(lambda: self.get(LSR) & DR)
            data.append(self.get(RX))
        return bytes(data)

    def interrupt(self):
        event = Event()
        self.client.set_irqs(INTX, DATA_EVENTFD | TRIGGER, fds=[event])
        return event

    def unmask(self):
        self.client.set_irqs(INTX, DATA_NONE | UNMASK)


def read_all(fd, n):
    fd = fd if isinstance(fd, int) else fd.fileno()
    data = b""
    while len(data) < n:
        assert select.select([fd], [], [], TIMEOUT)[0], f"{len(data)} of {n} bytes came"
        data += os.read(fd, 65536)
    return data


def is_idle(pid):
    """Nothing wakes the process any more. One that spins or ticks never gets there."""

    def switches():
        with open(f"/proc/{pid}/status") as status:
            return [line for line in status if "ctxt_switches" in line]

    for _ in range(20):
        before = switches()
        time.sleep(0.25)
        if switches() == before:
            return True
    return False


def terminal(server):
    lines = server.log.read_text().splitlines()
    assert len(lines) == 1
    return re.fullmatch(r"serial: (/dev/pts/\d+)", lines[0])[1]


def open_terminal(name):
    return os.open(name, os.O_RDWR | os.O_NOCTTY)


@pytest.fixture
def line(serve, connect, tmp_path):
    """A server on a UNIX socket, its port, and a function that connects to the line."""
    path = tmp_path / "line"
    server = serve("serial", f"path=unix:{path}")
    clients = []

    def plug():
        clients.append(socket.socket(socket.AF_UNIX))
        clients[-1].settimeout(TIMEOUT)
        clients[-1].connect(str(path))
        return clients[-1]

    yield server, Port(connect(server)), plug
    for client in clients:
        client.close()


# ---- Pseudo-terminal ----------------------------------------------------------------------------


def test_terminal_in_both_directions(serve, connect):
    server = serve("serial")
    port = Port(connect(server))
    fd = open_terminal(terminal(server))
    port.wait(lambda: port.lines() == CTS | DSR | DCD)
    data = bytes(range(256))
    port.send(data)
    assert read_all(fd, 256) == data
    os.write(fd, data)
    assert port.receive(256) == data
    assert is_idle(server.pid)
    os.close(fd)


def test_terminal_that_nobody_opened(serve, connect):
    server = serve("serial")
    port = Port(connect(server))
    assert port.lines() == CTS
    port.send(b"lost" * 100)
    assert port.get(LSR) & (THRE | TEMT) == THRE | TEMT
    assert is_idle(server.pid)

    fd = open_terminal(terminal(server))
    port.wait(lambda: port.lines() == CTS | DSR | DCD)
    port.send(b"heard")
    assert read_all(fd, 5) == b"heard"
    os.close(fd)
    port.wait(lambda: port.lines() == CTS)
    assert is_idle(server.pid)


def test_terminal_that_is_written_and_closed_at_once(serve, connect):
    server = serve("serial")
    port = Port(connect(server))
    name = terminal(server)
    for i in range(20):
        fd = open_terminal(name)
        os.write(fd, b"%04d" % i)
        os.close(fd)
        assert port.receive(4) == b"%04d" % i
    assert is_idle(server.pid)


def test_terminal_that_is_not_read(serve, connect):
    server = serve("serial")
    port = Port(connect(server))
    fd = open_terminal(terminal(server))
    port.wait(lambda: port.lines() == CTS | DSR | DCD)
    sent = port.send_until_stuck()
    assert is_idle(server.pid)
    assert read_all(fd, len(sent)) == sent  # all of it, and the guest goes on
    port.wait(port.can_send)
    port.send_until_stuck()
    os.close(fd)  # with a full buffer
    port.wait(port.can_send)
    assert is_idle(server.pid)


def test_terminal_that_is_written_while_the_guest_does_not_listen(serve, connect):
    server = serve("serial")
    client = connect(server)
    fd = os.open(terminal(server), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    written = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            more = bytes((len(written) + i) % 251 for i in range(1000))
            written += more[:os.write(fd, more)]
    assert is_idle(server.pid)
    os.close(fd)  # now there is input and a hang-up
    assert is_idle(server.pid)
    assert Port(client).receive(len(written)) == written
    assert is_idle(server.pid)


# ---- UNIX socket --------------------------------------------------------------------------------


def test_socket_in_both_directions(line):
    server, port, plug = line
    assert port.lines() == CTS
    assert is_idle(server.pid)
    peer = plug()
    port.wait(lambda: port.lines() == CTS | DSR | DCD)
    data = os.urandom(5000)
    peer.sendall(data)
    assert port.receive(5000) == data
    # In parts: a socket's buffer holds a few hundred writes, whatever their size.
    for at in range(0, 5000, 1000):
        port.send(data[at:at + 1000])
        assert read_all(peer, 1000) == data[at:at + 1000]
    peer.close()
    port.wait(lambda: port.lines() == CTS)
    assert is_idle(server.pid)


def test_socket_takes_one_client(line):
    _, port, plug = line
    first = plug()
    assert plug().recv(1) == b""
    first.sendall(b"a")
    assert port.receive(1) == b"a"
    first.close()
    port.wait(lambda: port.lines() == CTS)
    plug().sendall(b"b")
    assert port.receive(1) == b"b"


def test_socket_whose_client_only_listens(line):
    server, port, plug = line
    peer = plug()
    peer.sendall(b"last words")
    peer.shutdown(socket.SHUT_WR)
    assert port.receive(10) == b"last words"
    assert is_idle(server.pid)
    port.send(b"answer")
    assert read_all(peer, 6) == b"answer"
    peer.close()
    port.wait(lambda: port.lines() == CTS)
    assert is_idle(server.pid)


def test_socket_whose_client_spoke_and_went(line):
    """What it said is not lost when the guest answers before having read it."""
    server, port, plug = line
    data = os.urandom(5000)
    peer = plug()
    peer.sendall(data)
    peer.close()
    received = port.receive(1000)
    port.send(b"echo")
    received += port.receive(4000)
    assert received == data
    assert is_idle(server.pid)


def test_socket_whose_client_does_not_read(line):
    server, port, plug = line
    peer = plug()
    peer.sendall(b"i" * 1000)
    port.wait(lambda: port.lines() == CTS | DSR | DCD)
    sent = port.send_until_stuck()
    assert is_idle(server.pid)
    peer.close()
    port.wait(port.can_send)
    assert is_idle(server.pid)
    assert port.receive(1000) == b"i" * 1000
    port.wait(lambda: port.lines() == CTS)
    assert len(sent) > 1000
    assert is_idle(server.pid)


def test_socket_files(serve, connect, tmp_path):
    stale = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    server = serve("serial", f"path=unix:{stale}")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(stale))
        peer.sendall(b"x")
        assert Port(connect(server)).receive(1) == b"x"
    server.stop()
    assert not stale.exists()


# ---- Files, standard input and output -----------------------------------------------------------


def test_file_is_appended_to(serve, connect, tmp_path):
    log = tmp_path / "console"
    log.write_bytes(b"old ")
    server = serve("serial", f"path={log}")
    port = Port(connect(server))
    assert port.lines() == CTS | DSR | DCD
    port.send(b"new")
    assert port.can_send()
    assert log.read_bytes() == b"old new"
    port.send(b" unasked")
    deadline = time.monotonic() + TIMEOUT
    while log.read_bytes() != b"old new unasked":  # though the guest looks at nothing
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert is_idle(server.pid)


def test_file_that_is_full(serve, connect):
    server = serve("serial", "path=/dev/full")
    port = Port(connect(server))
    port.send(b"lost" * 100)
    port.wait(port.can_send)
    assert server.log.read_text().splitlines() == [
        "outboard: serial: output is lost: No space left on device"]


@pytest.fixture
def serve_stdio():
    """Serves one connection with the given standard input and output; returns (process, Client)."""
    processes = []

    def start(stdin, stdout):
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen([OUTBOARD, "serve", "serial", "path=-",
                                        f"--fd={theirs.fileno()}"], stdin=stdin, stdout=stdout,
                                       pass_fds=[theirs.fileno()])
        client = Client(ours)
        processes.append((process, client))
        return process, client

    yield start
    for process, client in processes:
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0


def test_standard_input_that_is_a_pipe(serve_stdio):
    out, out_end = os.pipe()
    in_end, in_ = os.pipe()
    process, client = serve_stdio(in_end, out_end)
    os.close(in_end)
    os.close(out_end)
    port = Port(client)
    os.write(in_, b"input")
    assert port.receive(5) == b"input"
    assert is_idle(process.pid)
    os.close(in_)
    assert is_idle(process.pid)
    port.send(b"output")
    assert read_all(out, 6) == b"output"
    os.close(out)
    port.send(b"lost" * 100)
    port.wait(port.can_send)
    assert is_idle(process.pid)


def test_standard_input_that_is_a_file(serve_stdio, tmp_path):
    data = os.urandom(3000)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as in_, open(tmp_path / "out", "wb") as out:
        out.write(b"before ")
        out.flush()
        process, client = serve_stdio(in_, out)
    port = Port(client)
    assert port.receive(3000) == data
    port.send(b"after")
    assert port.can_send()
    assert (tmp_path / "out").read_bytes() == b"before after"
    assert is_idle(process.pid)


def test_standard_input_that_is_empty(serve_stdio):
    process, client = serve_stdio(subprocess.DEVNULL, subprocess.DEVNULL)
    Port(client).send(b"x" * 100)
    assert is_idle(process.pid)


def test_standard_input_that_is_a_terminal(serve_stdio):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process, client = serve_stdio(theirs, theirs)
    raw = termios.tcgetattr(theirs)
    assert not raw[1] & termios.OPOST
    assert not raw[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert os.get_blocking(theirs)  # which the shell would suffer from
    port = Port(client)
    os.write(ours, b"\x03\r\x00")
    assert port.receive(3) == b"\x03\r\x00"
    port.send(b"a\n\r\xff")
    assert read_all(ours, 4) == b"a\n\r\xff"
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 0
    assert termios.tcgetattr(theirs) == before


# ---- Interrupts and registers -------------------------------------------------------------------


def test_interrupts(line):
    _, port, plug = line
    peer = plug()
    port.wait(lambda: port.lines() == CTS | DSR | DCD)
    event = port.interrupt()

    port.set(IER, RDI)
    assert event.count() == 0
    peer.sendall(b"k")  # below the trigger level: the time-out tells
    event.wait()
    assert [port.get(IIR), port.get(RX), port.get(IIR)] == [IIR_TIMEOUT, ord("k"), NO_INT]
    port.unmask()
    assert event.count() == 0
    peer.sendall(b"12345678")
    event.wait()
    assert port.get(IIR) in (IIR_RDI, IIR_TIMEOUT)
    assert port.receive(8) == b"12345678"
    assert port.get(IIR) == NO_INT
    port.unmask()
    assert event.count() == 0

    port.set(IER, THRI)
    assert event.count() == 1
    assert [port.get(IIR), port.get(IIR)] == [IIR_THRI, NO_INT]
    port.unmask()
    port.set(TX, ord("x"))
    event.wait()  # without a look that would send the byte
    assert [port.get(IIR), port.get(IIR)] == [IIR_THRI, NO_INT]
    assert read_all(peer, 1) == b"x"
    port.unmask()

    port.set(IER, MSI)
    assert event.count() == 0
    peer.close()
    event.wait()
    assert port.get(IIR) == IIR_MSI
    assert port.get(MSR) == CTS | DDSR | DDCD
    assert port.get(IIR) == NO_INT


def test_level_stays_until_it_is_served(line):
    _, port, _ = line
    event = port.interrupt()
    port.set(IER, THRI)
    assert event.count() == 1
    port.unmask()
    assert event.count() == 1
    port.set(IER, 0)
    port.unmask()
    assert event.count() == 0


def test_handler_that_does_not_look_twice(line):
    """While it is at work it is not interrupted; what it left undone comes again by itself."""
    _, port, plug = line
    peer = plug()
    event = port.interrupt()
    port.set(IER, RDI)
    peer.sendall(b"12345678")
    for _ in range(3):
        event.wait()
        assert port.get(IIR) in (IIR_RDI, IIR_TIMEOUT)
        port.unmask()
    assert port.receive(8) == b"12345678"


def handle(port, event, serve):
    """One interrupt, handled as drivers do: until nothing is pending."""
    event.wait()
    while (pending := port.get(IIR)) != NO_INT:
        serve(pending)
    port.unmask()


def test_long_input_lets_the_handler_end(line):
    _, port, plug = line
    data = os.urandom(20000)
    sender = threading.Thread(target=plug().sendall, args=[data])
    sender.start()
    event = port.interrupt()
    port.set(IER, RDI)
    received, interrupts = bytearray(), 0

    def take(_):
        while port.get(LSR) & DR:
            received.append(port.get(RX))

    while len(received) < len(data):
        handle(port, event, take)
        interrupts += 1
    sender.join()
    assert bytes(received) == data
    assert interrupts > 10


def test_long_output_lets_the_handler_end(line):
    _, port, plug = line
    peer = plug()
    port.wait(lambda: port.lines() == CTS | DSR | DCD)
    data = os.urandom(20000)
    received = []
    receiver = threading.Thread(target=lambda: received.append(read_all(peer, len(data))))
    receiver.start()
    event = port.interrupt()
    port.set(IER, THRI)
    sent = interrupts = 0

    def give(_):
        nonlocal sent
        for byte in data[sent:sent + 16]:
            port.client.post(BAR0, TX, bytes([byte]))
        sent += 16

    while sent < len(data):
        handle(port, event, give)
        interrupts += 1
    port.set(IER, 0)
    receiver.join()
    assert received == [data]
    assert interrupts > 10


def test_wide_accesses_are_accesses_of_bytes(line):
    _, port, _ = line
    port.client.write(BAR0, MSR, b"\x00\x5a")
    assert port.get(SCR) == 0x5a
    registers = port.client.read(BAR0, 0, 8)
    assert registers[LCR] == WLEN8 and registers[SCR] == 0x5a


def test_reset(line):
    _, port, plug = line
    peer = plug()
    port.wait(lambda: port.lines() == CTS | DSR | DCD)
    port.set(SCR, 0x5a)
    port.set(IER, 0xf)
    for byte in b"bye":
        port.client.post(BAR0, TX, bytes([byte]))
    port.client.reset()
    assert read_all(peer, 3) == b"bye"
    assert port.get(SCR) == 0 and port.get(IER) == 0
    assert port.get(LSR) == THRE | TEMT
    assert port.get(MSR) == CTS | DSR | DCD


# ---- What cannot be opened ----------------------------------------------------------------------


@pytest.mark.parametrize("path, why", [
    ("unix:", "1 to 107 bytes"), ("unix:" + "x" * 108, "1 to 107 bytes"),
    ("unix:{}/none/line", "No such file"), ("unix:{}/precious", "in use"),
    ("unix:{}/live", "in use"), ("{}/none/console", "No such file"), ("", "No such file"),
    ("{}", "Is a directory")])
def test_lines_that_cannot_be_opened(tmp_path, path, why):
    (tmp_path / "precious").write_text("not a socket")
    with socket.socket(socket.AF_UNIX) as live, open(tmp_path / "err", "wb") as err:
        live.bind(str(tmp_path / "live"))
        live.listen(1)
        status = subprocess.run([OUTBOARD, "serve", "serial", f"path={path.format(tmp_path)}",
                                 f"--socket-path={tmp_path}/socket"], stdin=subprocess.DEVNULL,
                                stderr=err, timeout=TIMEOUT).returncode
    said = tail(tmp_path / "err").splitlines()
    assert status == 1
    assert len(said) == 1 and why in said[0]
    assert (tmp_path / "precious").read_text() == "not a socket"
    assert not (tmp_path / "socket").exists()


def test_a_terminal_is_put_back_though_workers_died(tmp_path):
    ready, ready_fd = os.pipe()
    os.set_inheritable(ready_fd, True)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(OUTBOARD, [OUTBOARD, "serve", "serial", "path=-", f"--socket-path={tmp_path}/s",
                            f"--ready-fd={ready_fd}"])
    os.close(ready_fd)
    assert os.read(ready, 1) == b"\n"
    os.close(ready)

    def canonical():
        return bool(termios.tcgetattr(terminal)[3] & termios.ICANON)

    def worker():
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    def wait(what):
        deadline = time.monotonic() + TIMEOUT
        while not what():
            assert time.monotonic() < deadline, "it did not come to be"
            time.sleep(0.001)

    wait(lambda: not canonical() and worker())
    first = worker()
    os.kill(int(first[0]), signal.SIGKILL)
    wait(lambda: worker() and worker() != first)
    assert not canonical()
    os.kill(pid, signal.SIGTERM)
    with contextlib.suppress(OSError): # until nobody has it open
        while os.read(terminal, 4096):
            pass
    assert canonical()
    os.waitpid(pid, 0)
    os.close(terminal)
