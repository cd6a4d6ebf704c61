"""`outboard check`: our own devices pass, and what a server does wrong is found."""

import fnmatch
import json
import re
import socket
import subprocess
import threading

import pytest

import faults
import raw
import spec
from devices import PROBE, Probe
from program import OUTBOARD, TOP, child
from relay import Fault, Relay, Session

LIMIT = 300  # seconds for a whole run; it takes a few


def check(path, *options, status=0):
    """The results of a run by id, as JSON has them."""
    done = subprocess.run([OUTBOARD, "check", str(path), "--format=json", *options],
                          capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == status, done.stderr + done.stdout[-4000:]
    results = json.loads(done.stdout)["checks"]
    return {result["id"]: result for result in results}


def failed(results):
    return {id: r["detail"] for id, r in results.items() if r["verdict"] in ("fail", "not run")}


def entries():
    done = subprocess.run([OUTBOARD, "check", "--list", "--format=json"], capture_output=True,
                          text=True, check=True)
    return json.loads(done.stdout)["checks"]


def test_each_check_has_an_id_of_its_own_and_cites_the_text():
    checks = entries()
    assert len({c["id"] for c in checks}) == len(checks) > 600
    assert all(c["title"] and c["section"] for c in checks)


# ---- Our devices pass ---------------------------------------------------------------------------


@pytest.fixture
def device(request, serve, tmp_path):
    name = request.param
    if name == "gpio":
        subprocess.run(["cc", "-shared", "-fPIC", f"-I{TOP}/include", "-o", tmp_path / "gpio.so",
                        TOP / "examples/gpio/gpio.c"], check=True)
        return serve(str(tmp_path / "gpio.so"))
    if name == "nvme":
        with open(tmp_path / "disk", "wb") as disk:
            disk.truncate(16 << 20)
        return serve("nvme", f"file={tmp_path}/disk")
    if name.startswith("probe"):
        return serve(str(PROBE), *name.split()[1:])
    if name.startswith("serial"):
        return serve("serial", f"path={tmp_path}/line", *name.split()[1:])
    return serve(name)


DEVICES = ["edu", "serial", "serial bus=platform", "rtc", "nvme", "gpio", "probe", "probe bus=platform"]


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("options", [[], ["--destructive"], ["--destructive", "--one-connection"]],
                         ids=["careful", "destructive", "one-connection"])
def test_our_devices_pass(device, options):
    results = check(device.socket, *options)
    assert not failed(results)
    assert len(results) == len(entries())


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("memory", ["mapped", "messages"])
def test_with_one_kind_of_memory(device, memory):
    results = check(device.socket, f"--memory={memory}", "--destructive")
    assert not failed(results)
    skipped = {id for id, r in results.items() if r["detail"].startswith("--memory=")}
    assert skipped and ("dma.map" in skipped) == (memory == "messages")


# ---- What is wrong is found ---------------------------------------------------------------------

# Their many thousand messages take a while through a relay: only the faults that are about them are looked for
# by them, and these have options that say so.
SLOW = ("--skip=limit.dma-maps,framing.stream,framing.bytes-slow,robust.never-reads,"
        "session.come-*,migration.round-trip-*")


@pytest.fixture
def relayed(probe, tmp_path):
    relays = []

    def start(fault):
        relays.append(Relay(tmp_path / "relay", probe.socket, fault))
        return relays[-1]

    yield start
    for relay in relays:
        relay.close()


def test_a_relay_falsifies_nothing(relayed):
    assert not failed(check(relayed(Fault()).socket_path, "--destructive"))


@pytest.mark.slow  # all of them together
@pytest.mark.parametrize("fault, expected, options", faults.FAULTS,
                         ids=[fault.__name__ for fault, _, _ in faults.FAULTS])
def test_a_fault_fails_its_checks(relayed, fault, expected, options):
    which = [] if any(o.startswith("--only=") for o in options) else [SLOW]
    results = check(relayed(fault()).socket_path, "--destructive", *which, *options,
                    status=1 if expected else 0)
    assert set(failed(results)) == set(expected)


def test_what_is_slow_has_a_fault():
    slow = SLOW.removeprefix("--skip=").split(",")
    expected = {e for _, expected, _ in faults.FAULTS for e in expected}
    assert {c["id"] for c in entries() if any(fnmatch.fnmatch(c["id"], s) for s in slow)} <= expected


def test_each_group_has_a_fault():
    groups = {c["id"].split(".")[0] for c in entries()}
    assert {e.split(".")[0] for _, expected, _ in faults.FAULTS for e in expected} == groups


# ---- The specification --------------------------------------------------------------------------


def test_each_row_of_the_specification_is_cited():
    listing = subprocess.run([OUTBOARD, "check", "--list"], capture_output=True, text=True,
                             check=True).stdout
    citations = re.findall(r"\[([^\[\]]+)\]$", listing, re.MULTILINE)
    found = {row for citation in citations for row in spec.cited(citation)}
    assert spec.rows() - found == set()
    assert {s for s in spec.SECTIONS if (s, None) not in found} == set()
    known = set(spec.ROWS) | set(spec.SECTIONS)
    assert {section for section, _ in found} - known == set()
    assert {r for r in found if r[1] and r[0] in spec.ROWS} - spec.rows() == set()


# ---- The command --------------------------------------------------------------------------------


def run(*args):
    return subprocess.run([OUTBOARD, "check", *map(str, args)], capture_output=True, text=True,
                          timeout=LIMIT)


def one_line(done, status, *words):
    assert done.returncode == status and done.stderr.count("\n") == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("args, words", [
    ([], ["missing"]), (["a", "b"], ["b", "one socket"]), (["a", "--only=nothing"], ["nothing"]),
    (["a", "--skip=dma,none.such"], ["none.such"]), (["a", "--format=xml"], ["xml"]),
    (["a", "--memory=none"], ["none"]), (["a", "--timeout=soon"], ["soon"]),
    (["a", "--timeout=1"], ["1"]), (["a", "--verbose=1"], ["--verbose=1"]),
    (["a", "--socket-path=b"], ["--socket-path"]), (["--client", "a"], ["a"]), (["--client"], ["--socket-path"]),
    (["--client", "--socket-path=a", "--memory=both"], ["--memory", "--client"]),
    (["--client", "--socket-path=a", "--destructive"], ["--destructive", "--client"]),
    (["--client", "--socket-path=a", "--one-connection"], ["--one-connection", "--client"]),
    (["--list", "a"], ["a", "--list"]), (["--list", "--format=tap"], ["--format=tap", "--list"]),
    (["--list", "--destructive"], ["--destructive", "--list"]), (["--list", "--timeout=100"], ["--timeout"]),
    (["--list", "--verbose"], ["--verbose"]), (["--client", "--list", "--socket-path=a"], ["a", "--list"]),
    (["--client", "--list", "--", "true"], ["true", "--list"])])
def test_usage(args, words):
    one_line(run(*args), 2, *words)


def test_nobody_is_there(tmp_path):
    one_line(run(tmp_path / "none"), 1, "none", "No such file")


def test_another_client_is_served(edu, connect):
    c = connect(edu)
    one_line(run(edu.socket, "--timeout=2000"), 1, str(edu.socket), "client already")
    assert c.device_info()


def test_a_server_that_does_not_answer(tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent"))
        listener.listen(4)
        one_line(run(tmp_path / "silent", "--timeout=200"), 1, "silent", "200 ms")


class Dies(Fault):
    """In the middle of it all."""

    def request(self, session, message):
        if message.command == 255:
            self.relay.close()
            return None
        return message


def test_a_server_that_dies(relayed):
    results = check(relayed(Dies()).socket_path, status=1)
    order = list(results)
    at = order.index("header.command-ff")
    assert results[order[at]]["verdict"] == "fail"
    assert {results[id]["verdict"] for id in order[:at]} == {"pass"}
    assert {results[id]["verdict"] for id in order[at + 1:]} == {"not run"}


def test_a_server_that_ends_with_its_client(tmp_path):
    """It serves one, and has gone when that goes."""
    path = tmp_path / "socket"
    ours, theirs = socket.socketpair()
    server = child([OUTBOARD, "serve", "edu", f"--fd={theirs.fileno()}"], pass_fds=[theirs.fileno()])
    theirs.close()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def introduce():
            session = Session(Relay(tmp_path / "unused", path, Fault()), listener.accept()[0], ours, 1)
            listener.close()
            session.run()

        thread = threading.Thread(target=introduce, daemon=True)
        thread.start()
        results = check(path, "--one-connection", "--skip=limit.dma-maps,framing.stream")
    assert not failed(results)
    assert {r["verdict"] for r in results.values()} == {"pass", "skip"}
    thread.join()
    assert server.wait(timeout=20) == 0


def test_only_and_skip(edu):
    ids = [c["id"] for c in entries()]
    assert set(check(edu.socket, "--only=irq")) == {i for i in ids if i.startswith("irq.")}
    assert set(check(edu.socket, "--only=irq,header.id-*", "--skip=*-1")) == \
        {i for i in ids if i.startswith(("irq.", "header.id-")) and not i.endswith("-1")}
    assert list(check(edu.socket, "--only=dma.map")) == ["dma.map"]


def test_careful_is_careful(probe, connect):
    """Nothing but config space is touched, and of that only what cannot be changed."""
    before = connect(probe)
    before.set32(raw.BAR0, Probe.SCRATCH, 0x600df00d)
    resets = before.get32(raw.BAR0, Probe.RESETS)
    before.close()
    assert not failed(check(probe.socket))
    after = raw.when_free(lambda: connect(probe))
    assert after.get32(raw.BAR0, Probe.SCRATCH) == 0x600df00d
    assert after.get32(raw.BAR0, Probe.RESETS) == resets


def test_table(edu, relayed):
    done = run(edu.socket, "--only=irq,header")
    assert done.returncode == 0
    assert re.fullmatch(r"header +\d+ passed\nirq +\d+ passed\nall +\d+ passed\n", done.stdout)
    loud = run(edu.socket, "--only=irq", "--verbose").stdout
    assert "pass    irq.answered: each interrupt type is answered" in loud
    done = run(relayed(faults.IrqFromNowhere()).socket_path, "--only=irq")
    assert done.returncode == 1
    assert ("fail    irq.none-max: type 0xffffffff is refused\n"
            "          VFIO_USER_DEVICE_GET_IRQ_INFO: expected an error reply, got success\n"
            "          section VFIO_USER_DEVICE_GET_IRQ_INFO: index\n") in done.stdout


def test_tap(edu, relayed):
    done = run(relayed(faults.IrqFromNowhere()).socket_path, "--only=irq,config-write.bars", "--format=tap")
    lines = done.stdout.splitlines()
    assert lines[0] == "TAP version 14" and done.returncode == 1
    results = [line for line in lines if line.startswith(("ok", "not ok"))]
    assert lines[1] == f"1..{len(results)}"
    assert [line for line in results if line.startswith("not ok")] == \
        [line for line in results if "irq.none-max" in line]
    assert [line for line in results if "# SKIP" in line] == \
        [line for line in results if "config-write.bars" in line]
    assert '  "message": "VFIO_USER_DEVICE_GET_IRQ_INFO: expected an error reply, got success"' in lines


def test_list():
    done = run("--list", "--only=reset")
    assert done.returncode == 0 and all(x.startswith("reset.") for x in done.stdout.splitlines())
    assert "Not checked:" in run("--list").stdout
