"""`outboard status`: what it tells of devices, and what it makes of keepers that lie."""

import errno
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from control import ANSWER, STATUS_LAYOUT, Status
from devices import MORTAL, Edu
from program import OUTBOARD
from raw import refused

BAR0 = 0


def status(*words, env=None):
    return subprocess.run([OUTBOARD, "status", *map(str, words)], capture_output=True, text=True, timeout=60,
                          env={**os.environ, **(env or {})})


def facts(path):
    result = status(path, "--json")
    assert result.returncode == 0, result.stderr
    device, = json.loads(result.stdout)["devices"]
    return device


@pytest.fixture
def kept(serve, tmp_path):
    """kept(device, ...) is a server with a control socket."""
    def start(device, *words, name="control"):
        server = serve(device, *words, options=[f"--control-path={tmp_path / name}"])
        server.control = tmp_path / name
        return server
    return start


def test_a_device_without_a_client(kept):
    server = kept("edu")
    f = facts(server.control)
    assert (f["device"], f["plugin"], f["bus"], f["state"]) == ("edu", "edu", "pci", "idle")
    assert f["keeper"]["pid"] == server.keeper and f["worker"]["pid"] == server.pid
    assert f["worker"]["number"] == 1 and f["deaths"]["restarts"] == 0
    assert not f["client"]["connected"] and f["client"]["clients"] == 0
    now = time.time_ns()
    assert now - 60e9 < f["keeper"]["started_ns"] <= f["worker"]["started_ns"] <= now
    text = status(server.control).stdout
    assert f"pid {server.pid}" in text and "edu on pci, idle" in text and "SIGKILL" in text


def test_a_session(kept, connect, memory):
    server = kept("edu")
    c = connect(server)
    c.map(0x10000, 0x4000, memory(0x4000))
    c.map(0x20000, 0x1000)
    with refused(errno.EEXIST):
        c.map(0x20000, 0x1000)
    for n in range(40):
        c.set32(BAR0, Edu.LIVENESS, n)
    f = facts(server.control)
    assert f["state"] == "serving" and f["client"]["connected"] and f["client"]["pid"] == os.getpid()
    assert (f["client"]["memory_regions"], f["client"]["memory_bytes"]) == (2, 0x5000)
    m = f["messages"]
    assert m["count"] == m["time"]["count"] == 44 and m["refused"] == 1
    assert m["bytes_in"] > 40 * 36 and m["bytes_out"] > 40 * 32
    assert 0 < m["time"]["p50_ns"] <= m["time"]["p99_ns"] and m["time"]["sum_ns"] > 0
    c.unmap(0x20000, 0x1000)
    c.close()
    deadline = time.monotonic() + 20
    while (f := facts(server.control))["state"] != "idle":
        assert time.monotonic() < deadline
    assert (f["client"]["memory_regions"], f["client"]["memory_bytes"], f["client"]["clients"]) == (0, 0, 1)


def test_counters_survive_workers(kept, connect, memory):
    server = kept("edu")
    c = connect(server)
    c.map(0x10000, 0x4000, memory(0x4000))
    for n in range(3):
        os.kill(server.pid, signal.SIGKILL)
        c.set32(BAR0, Edu.LIVENESS, n)
    f = facts(server.control)
    assert f["deaths"]["killed"] == f["deaths"]["restarts"] == 3 and f["deaths"]["last_signal"] == 9
    assert f["messages"]["count"] == 5 and f["worker"]["number"] == 4
    assert f["client"]["memory_bytes"] == 0x4000
    assert f["last_death"]["worker"] == 3 and f["last_death"]["signal"] == 0
    assert "SIGKILL" in status(server.control).stdout


def test_requests_of_a_serial_port(kept, connect, tmp_path):
    server = kept("serial", f"path={tmp_path / 'out'}")
    c = connect(server)
    for byte in b"hello":
        c.write(BAR0, 0, bytes([byte]))
    deadline = time.monotonic() + 20
    while (r := facts(server.control)["requests"])["write"]["bytes"] != 5:
        assert time.monotonic() < deadline
    assert 1 <= r["write"]["count"] <= 5 and r["read"]["count"] == 0


@pytest.fixture
def run_folder(tmp_path):
    """Where VMs have their folders, the environment for that, and a name that no other VM has."""
    if os.geteuid() != 0:
        yield tmp_path / "outboard", {"XDG_RUNTIME_DIR": str(tmp_path)}, "vm"
        return
    name = f"test-status-{os.getpid()}-"
    yield Path("/run/outboard"), {}, name
    for folder in Path("/run/outboard").glob(name + "*"):
        shutil.rmtree(folder)


def test_vms(serve, run_folder):
    base, env, name = run_folder
    for vm, device in (("one", "edu0"), ("one", "edu1"), ("two", "edu0")):
        folder = base / (name + vm)
        folder.mkdir(parents=True, exist_ok=True)
        serve("edu", options=[f"--control-path={folder / (device + '.control')}"])
    labels = [line.split()[0] for line in status(env=env).stdout.splitlines()]
    assert [label for label in labels if label.startswith(name)] == \
        [name + "one/edu0", name + "one/edu1", name + "two/edu0"]
    table = status(name + "one", env=env).stdout.splitlines()
    assert [line.split()[:3] for line in table] == \
        [["NAME", "DEVICE", "STATE"], [name + "one/edu0", "edu", "idle"], [name + "one/edu1", "edu", "idle"]]
    assert status(name + "two/edu0", env=env).stdout.startswith(name + "two/edu0: edu on pci, idle\n")
    result = status(name + "three", env=env)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"outboard: status: {name}three: no such VM\n"


def test_there_is_none(tmp_path):
    # For root, VMs are below /run: other tests may have some there now, so a /run of one's own is needed.
    alone = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"]
    if os.geteuid() != 0:
        alone = []
    elif subprocess.run([*alone, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace")

    def alone_status(*words):
        result = subprocess.run([*alone, OUTBOARD, "status", *words], capture_output=True, text=True, timeout=60,
                                env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert alone_status() == "No VM of `outboard run` is running.\n"
    assert json.loads(alone_status("--json")) == {"devices": []}


# ---- Keepers that are dead, silent, or lie --------------------------------------------------------------

def fails(result, why):
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("outboard: status: ") and why in lines[0], result.stderr


def test_nobody_there(tmp_path):
    fails(status(tmp_path / "none"), "there is no such control socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(str(tmp_path / "dead"))
    fails(status(tmp_path / "dead"), "nobody listens there any more")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "stream"))
        s.listen()
        fails(status(tmp_path / "stream"), "not a control socket")
    (tmp_path / "file").touch()
    for path in tmp_path / "file", tmp_path:
        fails(status(path), "not a control socket")


def test_a_path_that_looks_like_a_vm(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(str(tmp_path / "here"))
    for word, why in ("here", "./ before it"), ("there", "no such VM"), ("..", "no such VM"), ("", "no such VM"):
        result = subprocess.run([OUTBOARD, "status", word], capture_output=True, text=True, cwd=tmp_path,
                                env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, timeout=60)
        fails(result, why)


class Liar(threading.Thread):
    """A keeper that gives everybody one answer, with a descriptor."""

    def __init__(self, path, packet, fd=None, listens=True):
        super().__init__(daemon=True)
        self.packet, self.fd, self.listens = packet, fd, listens
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.door.bind(str(path))
        self.door.listen()
        self.start()

    def run(self):
        while True:
            try:
                sock, _ = self.door.accept()
            except OSError:
                return
            with sock:
                if self.listens:
                    sock.recv(4096)
                if self.packet is None:
                    time.sleep(3)
                else:
                    socket.send_fds(sock, [self.packet], [self.fd] if self.fd is not None else [])

    def close(self):
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
        self.join()


def answer(result=0, name=b"edu", size=ANSWER.size, last_death=1, last_signal=11):
    s = Status(*[0] * (len(Status._fields) - 1), name)
    s = s._replace(keeper=1, worker=2, number=3, ready=1, crashed=1, last_signal=last_signal,
                   last_death=last_death)
    return ANSWER.pack(result, size, STATUS_LAYOUT.pack(*s), b"because")


@pytest.fixture
def lie(tmp_path):
    """lie(packet, block) is a control path; the block is bytes."""
    liars = []

    def start(packet, block=None, **how):
        fd = None
        if block is not None:
            fd = os.memfd_create("block")
            os.write(fd, block)
        path = tmp_path / f"liar{len(liars)}"
        liars.append(Liar(path, packet, fd, **how))
        return path

    yield start
    for liar in liars:
        liar.close()
        if liar.fd is not None:
            os.close(liar.fd)


def test_silent(lie):
    fails(status(lie(None)), "its keeper does not answer")


@pytest.mark.parametrize("packet, why", [
    (b"x", "another build"), (answer(size=1), "another build"),
    (answer(result=-13), "another user"), (answer(result=-22), "Invalid argument")],
    ids=["short", "size", "refused", "error"])
def test_strange_answers(lie, packet, why):
    fails(status(lie(packet)), why)


def test_refused_unheard(lie):
    """So a keeper treats other users: its answer may be there before the question, or instead of it."""
    path = lie(answer(result=-13), listens=False)
    for _ in range(30):
        fails(status(path), "another user")


def test_no_block_yet(lie):
    result = status(lie(answer(name=b"\x1b[2Jevil\n" + b"x" * 55)))
    fails(result, "no worker has made the device yet")
    assert "\x1b" not in result.stdout and "?[2Jevil?" in result.stdout


@pytest.fixture
def block(kept, connect):
    """The bytes of a real one, after a crash and some messages."""
    from control import REQUEST, STATUS, Control
    server = kept(str(MORTAL), name="real")
    c = connect(server)
    with refused(errno.EIO):
        c.set32(BAR0, 16, 0)
    with Control(server.control) as control:
        fd, = control.ask(REQUEST.pack(STATUS, REQUEST.size)).fds
    whole = os.pread(fd, os.fstat(fd).st_size, 0)
    os.close(fd)
    return bytearray(whole)


def parts(block):
    found = {}
    for i in range(struct.unpack_from("=I", block, 12)[0]):
        name, offset, size = struct.unpack_from("=16sQQ", block, 24 + 32 * i)
        found[name.rstrip(b"\0").decode()] = (24 + 32 * i, offset, size)
    return found


def test_the_block_as_it_is(lie, block):
    path = lie(answer(), bytes(block))
    assert facts(path)["plugin"] == "mortal"
    assert "mortal on pci" in status(path).stdout


def damage(block, what):
    entry, offset, size = parts(block)["facts"]
    _, ring, ring_size = parts(block)["recorder"]
    if what == "empty":
        return b""
    if what == "short":
        return block[:2000]
    if what == "cut":
        return block[:offset + 100]
    if what == "cut-ring":
        return block[:ring + ring_size - 1]
    if what == "magic":
        block[0] ^= 1
    if what == "layout":
        block[8] ^= 1
    if what == "count":
        struct.pack_into("=I", block, 12, 0xffffffff)
    if what == "no-facts":
        block[entry] = 0
    if what == "small-facts":
        struct.pack_into("=Q", block, entry + 24, 8)
    if what == "far-facts":
        struct.pack_into("=Q", block, entry + 16, len(block) - 8)
    if what == "wild-facts":
        struct.pack_into("=QQ", block, entry + 16, (1 << 64) - 4096, 8192)
    if what == "facts-layout":
        block[offset] ^= 0x40
    if what == "ring-layout":
        block[ring] ^= 0x40
    return bytes(block)


@pytest.mark.parametrize("what", ["empty", "short", "cut", "cut-ring", "magic", "layout", "count", "no-facts",
                                  "small-facts", "far-facts", "wild-facts", "facts-layout", "ring-layout"])
def test_damaged_blocks(lie, block, what):
    path = lie(answer(), damage(block, what))
    result = status(path)
    assert "edu" in result.stdout  # what the keeper says is known
    fails(result, "block")
    result = subprocess.run([OUTBOARD, "trace", path, "--last"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1 and "block" in result.stderr


@pytest.mark.parametrize("fill", [b"\xff", b"\x1b", b"A"])
def test_nonsense_in_the_parts(lie, block, fill):
    """Numbers are what they are; texts stay printable; nothing is read outside."""
    _, offset, size = parts(block)["facts"]
    block[offset + 8:offset + size] = fill * (size - 8)
    _, offset, size = parts(block)["recorder"]
    block[offset + 8:offset + size] = fill * (size - 8)
    path = lie(answer(), bytes(block))
    for words in (["status", path], ["status", path, "--json"], ["trace", path, "--last", "--number=0"],
                  ["trace", path, "--last", "--json"]):
        result = subprocess.run([OUTBOARD, *map(str, words)], capture_output=True, timeout=60)
        assert result.returncode == 0, result.stderr
        assert all(byte == 10 or 32 <= byte < 127 for byte in result.stdout)


def test_no_block_but_a_pipe(lie, tmp_path):
    read, write = os.pipe()
    path = tmp_path / "pipe"
    liar = Liar(path, answer(), read)
    fails(status(path), "no block")
    liar.close()
    os.close(read)
    os.close(write)
