"""`outboard serve` under a service manager: sockets that are passed to it, and what it tells."""

import os
import signal
import socket
import subprocess

import pytest

from devices import Edu
from program import OUTBOARD, child
from raw import BAR0, TIMEOUT

KEEPING = pytest.mark.parametrize("options", [[], ["--no-keeper"]], ids=["keeper", "alone"])


def wait_for(condition):
    while not condition():
        os.sched_yield()


def start(arguments, *, passed=(), count=None, pid="$$", environment=(), **options):
    """Popen of `outboard serve`, with these sockets from descriptor 3 on, as systemd passes them."""
    moves = " ".join(f"{3 + i}<&{s.fileno()}" for i, s in enumerate(passed))
    count = len(passed) if count is None else count
    script = f"export LISTEN_PID={pid} LISTEN_FDS={count} LISTEN_FDNAMES=x; exec \"$@\" {moves}"
    return child(["bash", "-c", script, "bash", OUTBOARD, "serve", *arguments],
                 pass_fds=[s.fileno() for s in passed], env={**os.environ, **dict(environment)}, **options)


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "passed"))
        s.listen(4)
        yield s


def environment_of(pid):
    with open(f"/proc/{pid}/environ", "rb") as f:
        return dict(word.split(b"=", 1) for word in f.read().split(b"\0") if b"=" in word)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(word) for word in f.read().split()]


# ---- LISTEN_FDS -----------------------------------------------------------------------------------


@KEEPING
def test_a_socket_that_is_passed(listener, connect, tmp_path, options):
    """A client that came before the device was there is served, and the path stays its owner's."""
    early = socket.socket(socket.AF_UNIX)
    early.connect(str(tmp_path / "passed"))
    server = start(["edu", *options], passed=[listener])
    assert connect(early).get32(BAR0, Edu.ID) == 0x010000ed
    early.close()
    assert connect(str(tmp_path / "passed")).get32(BAR0, Edu.ID) == 0x010000ed
    server.terminate()
    assert server.wait(TIMEOUT) == 0
    assert (tmp_path / "passed").is_socket()


def test_a_successor_has_it_too(listener, connect, tmp_path):
    """And the worker does not think that descriptors were passed to itself."""
    server = start(["edu"], passed=[listener])
    c = connect(str(tmp_path / "passed"))
    worker, = children(server.pid)
    names = set(environment_of(worker))
    assert not names & {b"LISTEN_PID", b"LISTEN_FDS", b"LISTEN_FDNAMES", b"NOTIFY_SOCKET"}
    os.kill(worker, signal.SIGKILL)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    c.close()
    assert connect(str(tmp_path / "passed")).get32(BAR0, Edu.ID) == 0x010000ed
    server.terminate()
    assert server.wait(TIMEOUT) == 0


@KEEPING
def test_a_connection_that_is_passed(connect, options):
    """As of a socket unit with Accept=yes: its end is the device's."""
    ours, theirs = socket.socketpair()
    with theirs:
        server = start(["edu", *options], passed=[theirs])
    c = connect(ours)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    c.close()
    assert server.wait(TIMEOUT) == 0


def ends(status, words, *arguments, **options):
    server = start(*arguments, stderr=subprocess.PIPE, text=True, **options)
    said = server.communicate(timeout=TIMEOUT)[1]
    assert server.returncode == status, said
    lines = said.splitlines()
    assert len(lines) == 1 and all(word in lines[0] for word in words), said


def test_more_sockets_than_a_device_takes(listener):
    ends(1, ["3 sockets", "LISTEN_FDS", "one"], ["edu"], passed=[listener] * 3)


def test_a_socket_and_a_path(listener, tmp_path):
    ends(2, ["LISTEN_FDS", "--socket-path"], ["edu", f"--socket-path={tmp_path}/s"], passed=[listener])
    assert not (tmp_path / "s").exists()


def test_what_is_passed_to_another(listener):
    """Variables that a parent left, and those of nothing."""
    for pid, count in [("1", 1), ("$$", 0), ("$$", "-1"), ("$$", "many"), ("x", 1), ("", 1)]:
        ends(2, ["--socket-path", "LISTEN_FDS"], ["edu"], passed=[listener], pid=pid, count=count)


@pytest.mark.parametrize("what", [lambda: open("/dev/null", "rb"), lambda: socket.socket(socket.AF_INET),
                                  lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)])
def test_a_descriptor_that_is_no_such_socket(what):
    with what() as passed:
        ends(1, ["--fd=3"], ["edu"], passed=[passed])


# ---- Too little of everything -----------------------------------------------------------------------


def under(limit, tmp_path, *options):
    return child(["prlimit", limit, "--", OUTBOARD, "serve", "edu", f"--socket-path={tmp_path}/s", *options],
                 stderr=subprocess.PIPE, text=True)


@pytest.mark.slow  # a sanitizer needs more of everything
@KEEPING
def test_few_descriptors(tmp_path, connect, options):
    """It starts and serves, or says in a line or two why it does not, and leaves nothing."""
    served = 0
    for most in range(5, 40):
        server = under(f"--nofile={most}:{most}", tmp_path, *options)
        wait_for(lambda: server.poll() is not None or listens(tmp_path / "s"))
        try:
            c = connect(str(tmp_path / "s"))
            assert c.get32(BAR0, Edu.ID) == 0x010000ed
            c.close()
            served += 1
        except (OSError, EOFError):
            pass
        server.terminate()
        said = server.communicate(timeout=TIMEOUT)[1]
        assert server.returncode in (0, 1, 127), said # 127: not even the C library could be opened
        assert server.returncode == 0 or len(said.splitlines()) in (1, 2), said
        if server.returncode != 127:
            assert not os.listdir(tmp_path)
    assert served > 5


def listens(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(str(path)) == 0


@pytest.mark.slow  # a sanitizer needs more of everything
@KEEPING
def test_little_memory(tmp_path, options):
    server = under(f"--as={20 << 20}", tmp_path, *options)
    said = server.communicate(timeout=TIMEOUT)[1]
    assert server.returncode == 1 and "Cannot allocate memory" in said, said
    assert not os.listdir(tmp_path)


# ---- NOTIFY_SOCKET --------------------------------------------------------------------------------


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """(the value of NOTIFY_SOCKET, the socket behind it)"""
    name = str(tmp_path / "notify") if request.param == "path" else f"@outboard-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(name.replace("@", "\0", 1))
        s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        s.settimeout(TIMEOUT)
        yield name, s


def told(s):
    """(what, by which process)"""
    text, control, _, _ = s.recvmsg(100, socket.CMSG_SPACE(12))
    return text, int.from_bytes(control[0][2][:4], "little")


@KEEPING
def test_a_manager_is_told(manager, connect, tmp_path, options):
    name, s = manager
    path = tmp_path / "s"
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}", *options],
                   env={**os.environ, "NOTIFY_SOCKET": name})
    assert told(s) == (b"READY=1", server.pid)
    assert connect(path).get32(BAR0, Edu.ID) == 0x010000ed
    server.terminate()
    assert told(s) == (b"STOPPING=1", server.pid)
    assert server.wait(TIMEOUT) == 0


def test_a_successor_is_not_another_start(manager, connect, tmp_path):
    name, s = manager
    path = tmp_path / "s"
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}"],
                   env={**os.environ, "NOTIFY_SOCKET": name})
    assert told(s) == (b"READY=1", server.pid)
    c = connect(path)
    worker, = children(server.pid)
    assert b"NOTIFY_SOCKET" not in environment_of(worker)
    os.kill(worker, signal.SIGKILL)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    assert children(server.pid) != [worker]
    server.terminate()
    assert told(s) == (b"STOPPING=1", server.pid)
    assert server.wait(TIMEOUT) == 0


def test_a_manager_that_has_gone(manager, tmp_path):
    """What cannot be told does not end the device."""
    name, s = manager
    path = tmp_path / "s"
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}"],
                   env={**os.environ, "NOTIFY_SOCKET": name})
    assert told(s)[0] == b"READY=1"
    s.close()
    server.terminate()
    assert server.wait(TIMEOUT) == 0


@pytest.mark.parametrize("name, words", [
    ("/nowhere/notify", ["No such file"]), ("x" * 200, ["too long"]), ("relative", ["not supported"]),
    ("@", ["not supported"]), ("@outboard-nobody", ["refused"])])
def test_a_manager_that_is_not_there(tmp_path, name, words):
    done = subprocess.run([OUTBOARD, "serve", "edu", f"--socket-path={tmp_path}/s"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=TIMEOUT, check=False,
                          env={**os.environ, "NOTIFY_SOCKET": name})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "NOTIFY_SOCKET" in done.stderr, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not os.listdir(tmp_path)


def test_an_empty_name_is_nobody(tmp_path, connect):
    path = tmp_path / "s"
    server = child([OUTBOARD, "serve", "edu", f"--socket-path={path}"], env={**os.environ, "NOTIFY_SOCKET": ""})
    wait_for(path.exists)
    connect(path)
    server.terminate()
    assert server.wait(TIMEOUT) == 0
