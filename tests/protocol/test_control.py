"""The control socket: what the keeper tells, to whom, and what it makes of garbage."""

import errno
import fcntl
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import time

import pytest

from control import ANSWER, REQUEST, STATUS, Control
from devices import MORTAL, Edu
from program import OUTBOARD, child, links
from raw import refused

BAR0 = 0
ASK = REQUEST.pack(STATUS, REQUEST.size)


@pytest.fixture
def kept(serve, tmp_path):
    server = serve("edu", options=[f"--control-path={tmp_path / 'control'}"])
    server.control = tmp_path / "control"
    return server


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_status(kept, connect):
    with Control(kept.control) as c:
        s = c.status()
        assert (s.keeper, s.worker, s.number, s.role, s.ready) == (kept.keeper, kept.pid, 1, 0, 1)
        assert s.name.rstrip(b"\0") == b"edu" and (s.killed, s.last_death) == (0, 0)
        now = time.time_ns()
        assert now - 60e9 < s.keeper_started <= s.worker_started <= now
        assert stat.S_IMODE(os.stat(kept.control).st_mode) == 0o600
        waiting = connect(kept, version=None)
        assert c.status().seats == 1
        waiting.close()


def test_deaths_are_told(kept, connect):
    c = connect(kept)
    with Control(kept.control) as control:
        for n in range(1, 4):
            before = time.time_ns()
            os.kill(kept.pid, signal.SIGKILL)
            assert c.get32(BAR0, Edu.ID) == 0x010000ed
            s = control.status()
            assert (s.killed, s.crashed, s.ended) == (n, 0, 0)
            assert (s.last_signal, s.last_status, s.number) == (signal.SIGKILL, 0, n + 1)
            assert s.last_death >= before and s.worker_started >= s.last_death and s.worker == kept.pid


def test_refused_messages_are_told(serve, connect, tmp_path):
    server = serve(str(MORTAL), options=[f"--control-path={tmp_path / 'control'}"])
    c = connect(server)
    with Control(tmp_path / "control") as control:
        for _ in range(3):
            with refused(errno.EIO):
                c.set32(BAR0, 4, 1)  # each kills three workers
        s = control.status()
        assert s.refused == 3
        assert s.crashed + s.ended == 9 or "waited for too long" in server.log.read_text()


def test_the_block_is_for_reading_alone(kept, connect):
    c = connect(kept)
    with Control(kept.control) as control:
        answer = control.ask(ASK)
        block, = answer.fds
        assert fcntl.fcntl(block, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        with pytest.raises(OSError):
            os.pwrite(block, b"x", 0)
        assert os.pread(block, 8, 0) == struct.pack("=Q", 0x314b4c424442544f)
        os.close(block)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed


@pytest.mark.parametrize("packet", [
    b"x", ASK[:-1], ASK + b"x", bytes(8), REQUEST.pack(STATUS, 0), REQUEST.pack(STATUS, 1 << 31),
    REQUEST.pack(0xffffffff, REQUEST.size), bytes(65536)],
    ids=["one", "short", "long", "zeros", "no-size", "large-size", "unknown", "huge"])
def test_garbage(kept, packet):
    with Control(kept.control) as c:
        answer = c.ask(packet)
        assert answer.result == -errno.EINVAL and not answer.fds
        assert c.status().worker == kept.pid


def test_random_garbage(kept):
    rng = random.Random(5)
    with Control(kept.control) as c:
        for _ in range(500):
            packet = rng.randbytes(rng.randrange(1, 600))
            assert c.ask(packet).result == -errno.EINVAL
        assert c.status().worker == kept.pid


@pytest.mark.parametrize("count", [1, 16, 17, 200])
def test_descriptors_that_nobody_asked_for(kept, count):
    """A request is refused with them, and none of them stays."""
    before = len(links(kept.keeper))
    with Control(kept.control) as c:
        read, write = os.pipe()
        for _ in range(20):
            assert c.ask(ASK, [write] * count).result == -errno.EINVAL
        os.close(write)
        assert os.read(read, 1) == b""  # nobody else has the other end
        os.close(read)
        assert len(links(kept.keeper)) <= before + 1


def test_an_empty_packet_ends_it(kept):
    with Control(kept.control) as c:
        c.send(b"")
        with pytest.raises(EOFError):
            c.receive()


def test_idle_ones_keep_nobody_out(kept):
    """Four at a time: the fifth takes the place of who has been silent for longest."""
    idle = [Control(kept.control) for _ in range(10)]
    with Control(kept.control) as c:
        assert c.status().worker == kept.pid
    closed = 0
    for i in idle:
        try:
            i.status()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            closed += 1
        i.close()
    assert 6 <= closed <= 8


def test_many(kept, connect):
    """Connections without number, some of which do not read: the device is served meanwhile."""
    c = connect(kept)
    before = len(links(kept.keeper))
    for n in range(300):
        control = Control(kept.control)
        try:
            for _ in range(n % 5):
                control.send(ASK)
        except (BrokenPipeError, ConnectionResetError):
            pass
        control.close()
        assert c.get32(BAR0, Edu.ID) == 0x010000ed
    wait_for(lambda: len(links(kept.keeper)) <= before)


def test_who_does_not_read_is_let_go(kept):
    """Answers that nobody takes do not pile up, nor does the keeper wait with them."""
    with Control(kept.control) as c, Control(kept.control) as other:
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                c.send(ASK)
        assert other.status().worker == kept.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_other_users(kept, tmp_path):
    os.chmod(kept.control, 0o777)
    for folder in [tmp_path, *tmp_path.parents[:3]]:
        os.chmod(folder, os.stat(folder).st_mode | 0o111)
    script = ("import os, socket, sys\n"
              "os.setgid(65534); os.setuid(65534)\n"
              "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1])\n"
              "packet, fds, _, _ = socket.recv_fds(s, 65536, 8)\n"
              "assert not fds\n"
              "sys.stdout.buffer.write(packet + bytes([len(s.recv(10))]))\n")
    out = subprocess.run(["python3", "-c", script, str(kept.control)], capture_output=True, check=True,
                         timeout=20).stdout
    result, size, status, why = ANSWER.unpack(out[:-1])
    assert result == -errno.EACCES and not any(status) and not any(why)
    assert out[-1] == 0  # and that is the end


def test_paths(serve, tmp_path):
    """A stale socket is replaced, a live one refused, and the keeper removes it at its end."""
    path = tmp_path / "control"
    first = serve("edu", options=[f"--control-path={path}"])
    with open(tmp_path / "log", "w") as log:
        second = child([OUTBOARD, "serve", "edu", f"--socket-path={tmp_path / 's'}", f"--control-path={path}"],
                       stderr=log)
        assert second.wait(20) == 1
    line, = (tmp_path / "log").read_text().splitlines()
    assert str(path) in line and "in use" in line
    assert not (tmp_path / "s").exists() and path.exists()
    first.kill()
    assert path.exists()
    second = serve("edu", options=[f"--control-path={path}"])
    with Control(path) as c:
        assert c.status().worker == second.pid
    second.stop()
    assert not path.exists()


def test_not_a_path_for_a_socket(tmp_path):
    (tmp_path / "file").write_text("precious")
    for path in [tmp_path / "file", tmp_path / "none" / "control", "/" + 200 * "x"]:
        with open(tmp_path / "log", "w") as log:
            server = child([OUTBOARD, "serve", "edu", f"--socket-path={tmp_path / 's'}",
                            f"--control-path={path}"], stderr=log)
            assert server.wait(20) == 1
        assert len((tmp_path / "log").read_text().splitlines()) == 1 and not (tmp_path / "s").exists()
    assert (tmp_path / "file").read_text() == "precious"


def test_not_without_a_keeper(tmp_path):
    with open(tmp_path / "log", "w") as log:
        server = child([OUTBOARD, "serve", "edu", f"--socket-path={tmp_path / 's'}", "--no-keeper",
                        f"--control-path={tmp_path / 'c'}"], stderr=log)
        assert server.wait(20) == 2
    assert "--no-keeper" in (tmp_path / "log").read_text()
