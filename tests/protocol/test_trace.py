"""`outboard trace --last`, and the report of a crash: what a worker was doing when it died."""

import errno
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from devices import MORTAL, Edu
from program import OUTBOARD
from raw import refused

BAR0 = 0


def trace(path, *words):
    return subprocess.run([OUTBOARD, "trace", str(path), *words], capture_output=True, text=True, timeout=60)


def events(path):
    result = trace(path, "--last", "--number=0", "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def kept(serve, tmp_path):
    def start(device, *words):
        server = serve(device, *words, options=[f"--control-path={tmp_path / 'control'}"])
        server.control = tmp_path / "control"
        return server
    return start


def sanitized():
    return b"__asan_init" in open(OUTBOARD, "rb").read()


def test_messages_in_order(kept, connect):
    server = kept("edu")
    c = connect(server)
    c.set32(BAR0, Edu.LIVENESS, 0x12345678)
    c.get32(BAR0, Edu.LIVENESS)
    with refused(errno.EINVAL):
        c.write(BAR0, 3, b"x")
    e = events(server.control)["events"]
    assert [x["number"] for x in e] == list(range(1, len(e) + 1))
    assert [x["time_ns"] for x in e] == sorted(x["time_ns"] for x in e)
    kinds = [x["kind"] for x in e]
    assert kinds[:1] == ["worker"] and "client" in kinds
    write, wrote, read, got, bad, refusal = e[-6:]
    assert (write["kind"], write["command"], write["index"], write["offset"], write["size"], write["value"]) == \
        ("message", "VFIO_USER_REGION_WRITE", 0, Edu.LIVENESS, 4, 0x12345678)
    assert (wrote["kind"], wrote["id"], wrote["error"]) == ("reply", write["id"], 0)
    assert read["command"] == "VFIO_USER_REGION_READ" and got["value"] == ~0x12345678 & 0xffffffff
    assert bad["offset"] == 3 and refusal["error"] == -errno.EINVAL
    text = trace(server.control, "--last", "--number=6").stdout.splitlines()
    assert len(text) == 6
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{6}  > VFIO_USER_REGION_WRITE BAR0 \+ 0x4, 4 bytes, 0x12345678", text[0])
    assert text[5].endswith("< VFIO_USER_REGION_WRITE: Invalid argument")


def test_the_ring_goes_round(kept, connect):
    server = kept("edu")
    c = connect(server)
    for n in range(600):
        c.set32(BAR0, Edu.LIVENESS, n)
    e = events(server.control)["events"]
    assert len(e) == 511 and e[-1]["number"] > 1200
    assert [x["number"] for x in e] == list(range(e[0]["number"], e[-1]["number"] + 1))
    assert len(trace(server.control, "--last").stdout.splitlines()) == 32


def test_read_while_it_is_written(kept, connect):
    """Whole events only, whenever one looks."""
    server = kept("edu")
    c = connect(server)
    child = os.fork()
    if child == 0:
        try:
            while True:
                c.set32(BAR0, Edu.LIVENESS, 0x55)
        finally:
            os._exit(0)
    try:
        for _ in range(20):
            e = events(server.control)["events"]
            numbers = [x["number"] for x in e]
            assert numbers == sorted(set(numbers))
            for x in e:
                assert x["kind"] in ("worker", "client", "reset", "message", "reply")
                if x["kind"] == "message" and x["command"] == "VFIO_USER_REGION_WRITE":
                    assert (x["offset"], x["size"], x["value"]) == (4, 4, 0x55)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_crash_is_reported_once(kept, connect):
    server = kept(str(MORTAL))
    c = connect(server)
    with refused(errno.EIO):
        c.set32(BAR0, 16, 0x10)  # kills three workers
    log = server.log.read_text()
    if not sanitized():
        full = [line for line in log.splitlines() if "died of SIGSEGV" in line]
        assert len(full) == 3 and "address 0x10, at mortal.so+0x" in full[0]
        assert all(line.endswith("as the one before it") for line in full[1:])
    assert log.count("the message in hand: ") == 1
    assert re.search(r"in hand: id \d+, VFIO_USER_REGION_WRITE BAR0 \+ 0x10, 4 bytes, 0x10\n", log)
    t = events(server.control)
    death = t["last_death"]
    assert death["signal"] == signal.SIGSEGV and death["address"] == 0x10 and death["object"] == "mortal.so"
    assert death["message"]["offset"] == 16 and death["again"] == 2
    comings = [x for x in t["events"] if x["kind"] == "worker"]
    assert [(x["value"], x["index"]) for x in comings][:4] == [(1, 0), (2, 11), (3, 11), (4, 11)]
    text = trace(server.control, "--last").stdout
    assert "SIGSEGV, address 0x10, at mortal.so+0x" in text
    assert "while it served VFIO_USER_REGION_WRITE BAR0 + 0x10, 4 bytes, 0x10\n" in text


def test_another_crash_is_reported_in_full(kept, connect):
    server = kept(str(MORTAL))
    c = connect(server)
    for register in (16, 4):
        with refused(errno.EIO):
            c.set32(BAR0, register, 0x10)  # an address that is aligned: a sanitizer has nothing else to say
    assert server.log.read_text().count("the message in hand: ") == 2


def test_a_crash_in_no_message(kept, connect):
    server = kept(str(MORTAL))
    c = connect(server)
    c.set32(BAR0, 8, 1)  # a timer kills all that follow, until the device has failed
    deadline = time.monotonic() + 60
    while c.get32(BAR0, 0) != 0xffffffff:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "in no message, in a step that a timer" in server.log.read_text()
    t = events(server.control)
    assert "message" not in t["last_death"] and t["last_death"]["signal"] == signal.SIGSEGV
    assert [x for x in t["events"] if x["kind"] == "timer"]


def test_a_crash_while_taking_over(kept, connect):
    """Is reported like any other, and the death before it is not lost."""
    server = kept(str(MORTAL))
    c = connect(server)
    c.set32(BAR0, 20, 0x30)  # kills all that follow when they start, until the device has failed
    c.post(BAR0, 4, b"\1\0\0\0")  # and this kills the first
    deadline = time.monotonic() + 60
    while "the device has failed" not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert c.get32(BAR0, 0) == 0xffffffff
    log = server.log.read_text()
    assert re.search(r"the message in hand: id \d+, VFIO_USER_REGION_WRITE BAR0 \+ 0x4, 4 bytes, 0x1\n", log)
    assert re.search(r"the message in hand: id \d+, VFIO_USER_REGION_WRITE BAR0 \+ 0x4, 4 bytes, 0x1, "
                     r"of the worker that it took over from\n", log)
    assert log.count("the last ") == 2  # two reports in full, and a line for each that is like the second
    assert "it dies of" not in log
    t = events(server.control)
    assert t["last_death"]["took_over"] and t["last_death"]["signal"] == signal.SIGSEGV
    if not sanitized():
        assert "address 0x30, at mortal.so+0x" in log
        assert t["last_death"]["address"] == 0x30 and t["last_death"]["object"] == "mortal.so"
    looked = subprocess.run([OUTBOARD, "status", server.control], capture_output=True, text=True, timeout=60)
    for text in (trace(server.control, "--last").stdout, looked.stdout):
        assert "SIGSEGV, address 0x" in text
        # What waits for longer than 4 s is refused, and in no hand any more.
        assert re.search(r"while it took over( from one that served VFIO_USER_REGION_WRITE BAR0 \+ 0x4,.*)?$", text, re.M)


def test_a_crash_of_a_new_build(kept, connect):
    """That loads the state is told by itself: nobody comes after it. The old one goes on."""
    server = kept(str(MORTAL))
    c = connect(server)
    c.set32(BAR0, 0, 0x10ad)
    upgrade = subprocess.run([OUTBOARD, "upgrade", server.control, f"--binary={OUTBOARD}"], capture_output=True, text=True,
                             timeout=60)
    assert upgrade.returncode == 1
    assert c.get32(BAR0, 0) == 0x10ad
    log = server.log.read_text()
    assert "SIGSEGV" in log or "SEGV on unknown address" in log
    if not sanitized():
        assert re.search(r"^outboard: mortal: it dies of SIGSEGV, address 0x40, at mortal\.so\+0x[0-9a-f]+$", log, re.M)


def test_a_core(serve, connect, tmp_path):
    """The log says where it is. There is none in the sandbox."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if sanitized() or subprocess.run(["prlimit", "--core=unlimited", "true"], capture_output=True).returncode != 0:
        pytest.skip("no cores here")
    for sandbox in ("off", "on"):
        server = serve(str(MORTAL), options=[f"--sandbox={sandbox}"],
                       prefix=["env", "-C", tmp_path, "prlimit", "--core=unlimited"])
        c = connect(server)
        worker = server.pid
        with refused(errno.EIO):
            c.set32(BAR0, 16, 0x10)
        log = server.log.read_text()
        if pattern.startswith("|"):
            assert (f"its core was given to {pattern[1:]}"[:60] in log) == ("core dumped" in log)
        elif sandbox == "on":
            assert "core" not in log
        else:
            assert f'its core was written to "{pattern}" (core_pattern, see core(5)), of process {worker} in {tmp_path}' in log
            assert log.count("its core") == log.count(", core dumped\n") == 3
            assert "/" in pattern or list(tmp_path.glob("core*"))


def test_killed_from_outside(kept, connect):
    """Nothing is reported of SIGKILL, but what it was doing is known."""
    server = kept("edu")
    c = connect(server)
    os.kill(server.pid, signal.SIGKILL)
    c.get32(BAR0, Edu.ID)
    t = events(server.control)
    assert t["last_death"]["worker"] == 1 and t["last_death"]["signal"] == 0 and "message" not in t["last_death"]
    assert "died of" not in server.log.read_text()


def test_sent_signals(kept, connect):
    """SIGABRT and its like can be sent: the process dies of them all the same."""
    server = kept("edu")
    c = connect(server)
    for number in (signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS):
        os.kill(server.pid, number)
        c.get32(BAR0, Edu.ID)
        death = events(server.control)["last_death"]
        assert death["signal"] == number and death["code"] <= 0


def test_without_a_keeper(serve, connect):
    server = serve(str(MORTAL), options=["--no-keeper"])
    c = connect(server)
    with pytest.raises(Exception):
        c.set32(BAR0, 16, 0x20)
    server.process.wait(timeout=20)
    assert re.search(r"^outboard: mortal: it dies of SIGSEGV, address 0x20, at mortal\.so\+0x[0-9a-f]+$",
                     server.log.read_text(), re.M)


def test_the_first_process_of_a_namespace(serve, connect):
    """It ignores signals that it sends to itself, and dies all the same."""
    inside = ["unshare", "--fork", "--pid", "--map-root-user"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespaces here")
    server = serve(str(MORTAL), options=["--no-keeper"], prefix=inside)
    c = connect(server)
    with pytest.raises(Exception):
        c.set32(BAR0, 4, 1)  # raise(SIGSEGV)
    assert server.process.wait(timeout=20) != 0
    assert "it dies of SIGSEGV, at " in server.log.read_text()


def test_the_command_line(kept, tmp_path):
    for words, why in (([], "live traces are not there yet"), (["--last", "--number=x"], "not a number"),
                       (["--last", "--number=513"], "not a number"), (["x", "--last"], "one device at a time")):
        result = trace(tmp_path / "control", *words)
        assert result.returncode == 2 and why in result.stderr and len(result.stderr.splitlines()) == 1
    result = subprocess.run([OUTBOARD, "trace", "--last"], capture_output=True, text=True)
    assert result.returncode == 2 and "which device?" in result.stderr
    result = trace(tmp_path / "control", "--last")
    assert result.returncode == 1 and "there is no such control socket" in result.stderr
