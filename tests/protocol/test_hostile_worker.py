"""A worker that was taken over by its guest: whatever it asks of its keeper or does to the descriptors that they
share, the keeper answers others, starts the next worker, and ends when it is told to.

The keeper starts any program, so the worker here is a script, in the words of src/keeper/protocol.h."""

import errno
import os
import re
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from control import Control
from program import OUTBOARD, TOP, child

KEEPER = Path(OUTBOARD).parent / "outboard-keeper"

# The requests by their names: PUT = 1...
WORDS = re.findall(r"^    KEEPER_(\w+)[, ]", (TOP / "src/keeper/protocol.h").read_text(), re.MULTILINE)
WORKER = f"{', '.join(WORDS)} = range(1, {len(WORDS) + 1})" + """
import errno, fcntl, os, signal, socket, struct, sys

keeper = socket.socket(fileno=int(sys.argv[-2].split("=")[1]))
BLOCK, BELL, SEAT = 0x10000001, 0x10000002, 0x11000000

def ask(what, name=0, fd=None, flags=0):
    socket.send_fds(keeper, [struct.pack("=IIQII", what, name, 0, flags, 0)], [] if fd is None else [fd])
    answer, fds, _, _ = socket.recv_fds(keeper, 64, 1)
    return fds[0] if fds else struct.unpack_from("=i", answer)[0]

def number():
    ask_dead = struct.pack("=IIQII", DEAD, 0, 0, 0, 0)
    keeper.send(ask_dead)
    return struct.unpack_from("=iI", keeper.recv(64))[1]

def live():
    keeper.recv(64)  # until the keeper has gone

"""


@pytest.fixture
def keep(tmp_path):
    """Starts a keeper of workers that run this. Its files are in tmp_path: door, control, log."""
    keepers = []

    def start(script, *options, limit=None):
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(tmp_path / "door"))
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.bind(str(tmp_path / "control"))
        for s in door, control:
            s.listen(8)
        log = open(tmp_path / "log", "wb")
        keeper = child(
            [KEEPER, "--name=hostile", f"--door={door.fileno()}", f"--control={control.fileno()}",
             *options, "--", sys.executable, "-c", WORKER + script],
            pass_fds=[door.fileno(), control.fileno()], stderr=log, cwd=tmp_path,
            preexec_fn=limit and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))))
        for f in door, control, log:
            f.close()
        keepers.append(keeper)
        return keeper

    yield start
    for keeper in keepers:
        keeper.kill()
        keeper.wait()


def status(tmp_path, condition=lambda s: s.ready):
    deadline = time.monotonic() + 30
    while True:
        with Control(tmp_path / "control") as c:
            s = c.status()
        if condition(s):
            return s
        assert time.monotonic() < deadline, s
        time.sleep(0.02)


def ends(keeper):
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(30) == 0
    return True


FULL_PIPE = """
_, bell = os.pipe()
fcntl.fcntl(bell, fcntl.F_SETFL, os.O_NONBLOCK)
for size in 65536, 1:
    try:
        while True:
            os.write(bell, bytes(size))
    except BlockingIOError:
        pass
fcntl.fcntl(bell, fcntl.F_SETFL, 0)
ask(PUT, BELL, bell)
"""
FULL_BELL = """
bell = ask(GET, BELL)
os.write(bell, struct.pack("=Q", 2 ** 64 - 2))
fcntl.fcntl(bell, fcntl.F_SETFL, 0)
"""


@pytest.mark.parametrize("bell", [FULL_PIPE, FULL_BELL], ids=["a full pipe", "full"])
def test_a_bell_that_blocks(keep, tmp_path, bell):
    keeper = keep(bell + "ask(READY)\nlive()")
    status(tmp_path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "door"))
        status(tmp_path, lambda s: s.seats == 1)
        assert ends(keeper)


def test_a_block_that_blocks(keep, tmp_path):
    """To open a FIFO for reading waits for somebody who writes."""
    os.mkfifo(tmp_path / "fifo")
    keeper = keep("ask(PUT, BLOCK, os.open('fifo', os.O_PATH))\nask(READY)\nlive()")
    status(tmp_path)
    assert ends(keeper)


PUT_ONE = "ask(PUT, 0x20000000 + i, 0)"
ACCEPT_ONE = "accept(0x20000000 + i)"


@pytest.mark.parametrize("one", [PUT_ONE, ACCEPT_ONE], ids=["put", "accepted"])
def test_all_descriptors_that_there_are(keep, tmp_path, one):
    """Some are left for those who come, and for the next worker."""
    keeper = keep("""
listener = socket.socket(socket.AF_UNIX)
listener.bind(b"")
listener.listen(4)
ask(PUT, 1, listener.fileno())

def accept(name):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(listener.getsockname())
        fd = ask(ACCEPT, 1, flags=name)
    if fd > 0:
        os.close(fd)
    return min(fd, 0)

if number() == 1:
    answers = {ONE for i in range(400)}
    os.write(2, b"%r\\n" % answers)
    ask(READY)
    os._exit(7)
ask(READY)
live()
""".replace("ONE", one), limit=256)
    assert status(tmp_path, lambda s: s.number == 2 and s.ready).ended == 1
    clients = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for c in clients:
        c.connect(str(tmp_path / "door"))
    status(tmp_path, lambda s: s.seats == len(clients))
    assert ends(keeper)
    log = (tmp_path / "log").read_text()
    assert str({0, -errno.EMFILE}) in log or str({-errno.EMFILE, 0}) in log
    assert "cannot" not in log


def test_rest_that_nobody_asked_for(keep, tmp_path):
    """It is a death like others, and there is an end to it."""
    keeper = keep("ask(READY)\nif 'role=failed' in sys.argv[-1]: live()\nos._exit(4)")
    s = status(tmp_path, lambda s: s.role == 2)
    assert s.ended == 6
    assert ends(keeper)


def test_the_end_comes_while_it_begins(keep, tmp_path):
    """It has not looked for signals yet: it finds this one when it does."""
    os.mkfifo(tmp_path / "go")
    keeper = keep("""
open('began', 'w')
open('go').read()
os.write(2, b'asked to end by %d' % signal.sigwait([signal.SIGTERM]))
os._exit(0)
""")
    deadline = time.monotonic() + 30
    while not (tmp_path / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    keeper.send_signal(signal.SIGTERM)
    for _ in range(2):  # then it has taken its signals
        status(tmp_path, lambda s: True)
    (tmp_path / "go").write_text("")
    assert keeper.wait(30) == 0
    assert "asked to end by 15" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("readonly", ["on", "off"])
def test_a_file_for_reading_alone(keep, serve, tmp_path, readonly):
    """Other guests may have the same file."""
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    kept = serve("nvme", f"file={disk}", f"readonly={readonly}")
    words = Path(f"/proc/{kept.keeper}/cmdline").read_bytes().split(b"\0")
    option, = (w.decode() for w in words if w.endswith(b"file=" + bytes(disk)) and w.startswith(b"--"))
    keeper = keep("""
def may(flags):
    fd = ask(OPEN, 0, flags=flags)
    return fd >= 0 and os.close(fd) is None

os.write(2, b"%r\\n" % [may(f) for f in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_ACCMODE)])
ask(READY)
live()
""", option)
    status(tmp_path)
    assert ends(keeper)
    answers = [True] + [readonly == "off"] * 3
    assert str(answers) in (tmp_path / "log").read_text()
