"""`outboard serve` as a command: what it refuses, what it leaves, where it takes a socket from."""

import contextlib
import errno
import json
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

import raw
from devices import BUILD, PROBE, Edu
from program import OUTBOARD, child
from raw import BAR0, TIMEOUT


def run(*arguments, **options):
    """(exit status, what it said on stderr) of `outboard serve`, which must end by itself."""
    done = subprocess.run([OUTBOARD, "serve", *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=TIMEOUT, **options)
    return done.returncode, done.stderr


def fails(status, words, *arguments, **options):
    """It ends with this status, after one line that holds these words."""
    code, said = run(*arguments, **options)
    assert code == status, said
    lines = [line for line in said.splitlines() if line]
    assert lines[0].startswith("outboard: ") and all(word in lines[0] for word in words), said
    assert len(lines) == 1, said
    return said


# ---- Devices and keys ---------------------------------------------------------------------------


@pytest.mark.parametrize("device, words", [
    ("ned", ["ned", "no such device"]), ("", ["no such device"]), ("EDU", ["EDU"]),
    ("/nowhere/mine.so", ["/nowhere/mine.so", "No such file"]), ("./", ["./"]),
    (BUILD / "liboutboard.so", ["holds no outboard plugin"]), ("/etc/passwd", ["/etc/passwd"]),
    (BUILD / "tests/devices/tomorrow.so", ["plugin interface 4", "has 3"])])
def test_devices_that_are_not_there(tmp_path, device, words):
    fails(1, words, device, f"--socket-path={tmp_path}/s")
    assert not os.listdir(tmp_path)


def test_a_plugin_that_contradicts_itself(tmp_path):
    fails(1, ["lopsided", "power of two"], BUILD / "tests/devices/lopsided.so",
          f"--socket-path={tmp_path}/s")
    assert not os.listdir(tmp_path)


def test_a_device_that_cannot_open(tmp_path):
    fails(1, ["probe", "broken, as was asked for"], PROBE, "broken=on",
          f"--socket-path={tmp_path}/s")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("arguments, words", [
    (["edu", "colour=red"], ["colour", "edu"]), (["edu", "dma_mask"], ["dma_mask"]),
    (["edu", "=1"], ["=1"]), (["edu", "dma_mask=1", "dma_mask=3"], ["dma_mask", "twice"]),
    ([], ["device"])])
def test_keys_that_are_not_there(tmp_path, arguments, words):
    fails(2, words, *arguments, f"--socket-path={tmp_path}/s")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("device, key", [("edu", "dma_mask=5"), ("edu", "dma_mask="),
                                         ("edu", "dma_mask=x"), (PROBE, "broken=perhaps")])
def test_values_that_a_device_refuses(tmp_path, device, key):
    fails(1, [key], device, key, f"--socket-path={tmp_path}/s")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("arguments", [
    ["edu"], ["edu", "--socket-path=/tmp/x", "--fd=3"], ["edu", "--fd=x"], ["edu", "--fd=-1"],
    ["edu", "--fd="], ["edu", "--no-such-option"], ["edu", "--socket-path"],
    ["edu", "--ready-fd=no"],
    ["edu", "--verbose=1", "--fd=3"]])
def test_usage(arguments):
    fails(2, [], *arguments)


# ---- Socket paths -------------------------------------------------------------------------------


def test_a_path_that_is_too_long(tmp_path):
    for n in 108, 200, 5000:
        fails(1, ["too long"], "edu", f"--socket-path={'/tmp/' + 'x' * n}")


def test_the_longest_path(serve, tmp_path, connect):
    path = str(tmp_path) + "/"
    path += "x" * (107 - len(path))
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}"])
    wait_for(path)
    assert connect(path).get32(BAR0, Edu.ID) == 0x010000ed
    server.terminate()
    assert server.wait(TIMEOUT) == 0 and not os.path.exists(path)


def wait_for(path):
    while not os.path.exists(path) or not listens(path):
        pass


def listens(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0


def test_a_missing_folder(tmp_path):
    fails(1, [f"{tmp_path}/no/s", "No such file"], "edu", f"--socket-path={tmp_path}/no/s")


def test_a_file_in_the_way_is_not_touched(tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    fails(1, [str(path), "File exists"], "edu", f"--socket-path={path}")
    assert path.read_text() == "data"


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path),
                                  lambda path: os.symlink("nowhere", path)])
def test_other_things_in_the_way(tmp_path, make):
    path = tmp_path / "s"
    make(path)
    before = os.lstat(path)
    fails(1, [str(path)], "edu", f"--socket-path={path}")
    assert os.lstat(path) == before


def test_a_live_server_is_not_replaced(edu, connect):
    c = connect(edu)
    fails(1, [str(edu.socket), "in use"], "edu", f"--socket-path={edu.socket}")
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    c.close()
    connect(edu)


def test_a_live_server_that_is_busy_is_not_replaced(tmp_path):
    """Its queue of connections is full: looking whether it lives must not wait for it."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening, Sockets(3) as clients:
        listening.bind(path)
        listening.listen(0)
        for client in clients:
            client.setblocking(False)
            client.connect_ex(path)
        fails(1, [path, "in use"], "edu", f"--socket-path={path}")
        assert os.path.exists(path)


class Sockets(list):
    def __init__(self, n):
        super().__init__(socket.socket(socket.AF_UNIX) for _ in range(n))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for s in self:
            s.close()


def test_a_stale_socket_is_replaced(serve, connect, tmp_path):
    first = serve("edu")
    first.kill()
    assert first.socket.exists()
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={first.socket}"])
    wait_for(str(first.socket))
    assert connect(first).get32(BAR0, Edu.ID) == 0x010000ed
    server.terminate()
    assert server.wait(TIMEOUT) == 0 and not first.socket.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("busy", [False, True])
def test_signals_end_it_cleanly(serve, connect, number, busy):
    server = serve("edu")
    c = connect(server) if busy else None
    server.process.send_signal(number)
    assert server.process.wait(TIMEOUT) == 0
    assert not server.socket.exists()
    if busy:
        assert c.is_closed()
    assert server.log.read_text() == ""


# ---- Sockets that are there already -------------------------------------------------------------


def test_fd_that_listens(tmp_path, connect):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen(5)
        server = child([OUTBOARD, "serve", "edu", f"--fd={listening.fileno()}"],
                       pass_fds=[listening.fileno()])
    for _ in range(3):
        with raw.Client(tmp_path / "s") as c:
            assert c.get32(BAR0, Edu.ID) == 0x010000ed
    server.terminate()
    assert server.wait(TIMEOUT) == 0
    assert (tmp_path / "s").exists()  # whoever made it removes it


@pytest.mark.parametrize("end", ["close", "garbage", "wrong version", "nothing"])
def test_fd_that_is_connected(connect, end):
    """One client, and the end of it is the end of the server."""
    ours, theirs = socket.socketpair()
    fd = theirs.fileno()
    server = child([OUTBOARD, "serve", "edu", f"--fd={fd}"], pass_fds=[fd],
                   stderr=subprocess.DEVNULL)
    theirs.close()
    c = connect(ours, version=None)
    if end == "close":
        c.negotiate()
        assert c.get32(BAR0, Edu.ID) == 0x010000ed
        assert server.poll() is None
    elif end == "garbage":
        c.send_bytes(b"x" * 100)
    elif end == "wrong version":
        with raw.refused(95):
            c.negotiate(major=9)
    c.close()
    assert server.wait(TIMEOUT) == 0


@pytest.mark.parametrize("make, words", [
    (lambda: socket.socket(socket.AF_INET), ["Protocol wrong type"]),
    (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), ["Protocol wrong type"]),
    (lambda: open("/dev/null"), ["Socket operation on non-socket"])])
def test_fd_that_is_no_such_socket(make, words):
    with make() as f:
        fails(1, ["--fd=", *words], "edu", f"--fd={f.fileno()}", pass_fds=[f.fileno()])


def test_fd_that_is_not_open():
    fails(1, ["--fd=77", "Bad file descriptor"], "edu", "--fd=77")


def test_ready_fd(tmp_path):
    """A newline when clients can connect, and then the end: nothing before, nothing after."""
    path = str(tmp_path / "s")
    ready, theirs = os.pipe()
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}", f"--ready-fd={theirs}"],
                   pass_fds=[theirs])
    os.close(theirs)
    assert os.read(ready, 10) == b"\n"
    assert listens(path)
    assert os.read(ready, 10) == b""
    os.close(ready)
    server.terminate()
    assert server.wait(TIMEOUT) == 0


def test_ready_fd_of_one_that_fails(tmp_path):
    ready, theirs = os.pipe()
    fails(1, [], PROBE, "broken=on", f"--socket-path={tmp_path}/s", f"--ready-fd={theirs}",
          pass_fds=[theirs])
    os.close(theirs)
    assert os.read(ready, 10) == b""
    os.close(ready)


def test_ready_fd_that_nobody_reads(tmp_path, connect):
    """The reader has gone: no reason to end."""
    path = str(tmp_path / "s")
    ready, theirs = os.pipe()
    os.close(ready)
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}", f"--ready-fd={theirs}"],
                   pass_fds=[theirs])
    os.close(theirs)
    wait_for(path)
    connect(path)
    server.terminate()
    assert server.wait(TIMEOUT) == 0


@pytest.mark.parametrize("options", [[], ["--no-keeper"]])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o117])
def test_the_umask_says_who_can_connect(tmp_path, umask, options):
    path = tmp_path / "socket"
    ready, theirs = os.pipe()
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}", f"--ready-fd={theirs}", *options],
                   pass_fds=[theirs], umask=umask)
    os.close(theirs)
    try:
        assert os.read(ready, 1) == b"\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~umask
    finally:
        os.close(ready)
        server.terminate()
        assert server.wait(TIMEOUT) == 0


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_standard_descriptors_that_are_closed(tmp_path, closed, connect):
    """No socket or file may take their numbers: lines of log would go there."""
    path = str(tmp_path / "s")

    def close():
        for fd in closed:
            os.close(fd)

    server = subprocess.Popen([OUTBOARD, "serve", "edu", f"--socket-path={path}"], preexec_fn=close)
    try:
        wait_for(path)
        c = connect(path)
        c.send(99)
        assert c.receive().error == 95  # after a line of log
        assert c.get32(BAR0, Edu.ID) == 0x010000ed
        for fd in closed:
            assert os.readlink(f"/proc/{server.pid}/fd/{fd}") == "/dev/null"
    finally:
        server.terminate()
        assert server.wait(TIMEOUT) == 0


# ---- What it says about itself ------------------------------------------------------------------


@pytest.mark.parametrize("device, name, options", [("edu", "edu", ["dma_mask"]),
                                                   (PROBE, "probe", ["broken", "bus"])])
def test_print_capabilities(device, name, options):
    done = subprocess.run([OUTBOARD, "serve", device, "--print-capabilities"], capture_output=True,
                          timeout=TIMEOUT, check=True)
    said = json.loads(done.stdout)
    assert said["type"] and said["device"] == name and said["description"]
    assert said["features"] == [] and said["options"] == options
    assert done.stderr == b""


def test_list_names_every_device():
    done = subprocess.run([OUTBOARD, "serve", "--list"], capture_output=True, text=True,
                          timeout=TIMEOUT, check=True)
    assert {"edu", "serial"} <= {line.split()[0] for line in done.stdout.splitlines()
                                 if line[0] != " "}
    assert "dma_mask" in done.stdout


def test_each_device_has_its_file():
    """One in share/vfio-user for each, by which others find it."""
    done = subprocess.run([OUTBOARD, "serve", "--list"], capture_output=True, text=True,
                          timeout=TIMEOUT, check=True)
    devices = {line.split()[0] for line in done.stdout.splitlines() if line[0] != " "}
    files = sorted(Path(OUTBOARD).parent.glob("50-outboard-*.json"))
    assert {f.stem.removeprefix("50-outboard-") for f in files} == devices
    for f in files:
        said = json.loads(f.read_text())
        device = f.stem.removeprefix("50-outboard-")
        assert set(said) == {"description", "type", "binary", "arguments"}
        assert said["type"] == "vfio-user" and said["description"] and said["binary"].endswith("/outboard")
        assert said["arguments"] == ["serve", device]
        capabilities = subprocess.run([OUTBOARD, *said["arguments"], "--print-capabilities"], check=True,
                                      capture_output=True, timeout=TIMEOUT).stdout
        assert json.loads(capabilities)["device"] == device


def test_help():
    done = subprocess.run([OUTBOARD, "serve", "--help"], capture_output=True, text=True,
                          timeout=TIMEOUT, check=True)
    for option in "--socket-path", "--fd", "--ready-fd", "--print-capabilities":
        assert option in done.stdout


def test_verbose_tells_totals_at_the_end(serve, connect):
    server = serve("edu", options=["--verbose"])
    c = connect(server)
    for _ in range(10):
        c.get32(BAR0, Edu.ID)
    c.close()
    server.stop()
    assert server.log.read_text()


@pytest.mark.parametrize("options", [[], ["--no-keeper"]], ids=["keeper", "alone"])
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_end_comes_at_once(tmp_path, end, options):
    """As soon as there is a socket it can be asked to end, and leaves none."""
    path = tmp_path / "s"
    for _ in range(5):
        server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}", *options])
        while not path.exists():
            assert server.poll() is None
        server.send_signal(end)
        assert server.wait(TIMEOUT) == 0 and not path.exists()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_log_that_nobody_reads(tmp_path, kind, connect):
    """Lines are lost then; the device is served on."""
    path = str(tmp_path / "s")
    if kind == "pipe":
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
    else:
        ends = socket.socketpair()
        ends[1].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ends[1].send(b"x" * 4096)
        ends[1].setblocking(True)
        reader, writer = (end.detach() for end in ends)
    server = subprocess.Popen([OUTBOARD, "serve", "edu", f"--socket-path={path}"], stderr=writer)
    try:
        wait_for(path)
        c = connect(path)
        for _ in range(20):
            c.send(99)
            assert c.receive().error == errno.ENOTSUP
        assert c.get32(BAR0, Edu.ID) == 0x010000ed
    finally:
        server.terminate()
        assert server.wait(TIMEOUT) == 0
        os.close(reader)
        os.close(writer)
