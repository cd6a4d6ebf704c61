"""The command line: help, bad input, and what a failed or ended command leaves behind."""

import json
import os
import re
import shlex
import signal
import socket
import stat
import struct
import subprocess
import time
from pathlib import Path

import pytest

from program import OUTBOARD, child

# Writes down how it was called, then does as it is told.
FAKE_QEMU = """#!/bin/sh
if [ "$1" = --version ]; then echo "QEMU emulator version {version} (test)"; exit; fi
printf '%s\\n' "$@" > {log}.new && mv {log}.new {log}
{then}
"""


def outboard(*words, **options):
    return subprocess.run([OUTBOARD, *map(str, words)], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, **options)


def assert_fails(result, status, why):
    """One line on stderr that says what and why, and nothing else."""
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("outboard: "), result.stderr
    assert why in result.stderr


def wait_for(what, seconds=20):
    """Waits until what() is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


# --- help and usage ---------------------------------------------------------------------------

COMMANDS = ["serve", "inspect", "run"]


def test_help_lists_the_commands():
    result = outboard("--help")
    assert result.returncode == 0 and result.stderr == ""
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w", result.stdout, re.M)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command):
    result = outboard(command, "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith(f"Usage: outboard {command} ")
    assert all(len(line) <= 90 for line in result.stdout.splitlines())
    assert outboard(command, "-h").stdout == result.stdout


def test_version():
    result = outboard("--version")
    assert result.returncode == 0
    assert re.fullmatch(r"outboard \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize("words, why", [
    ([], "which command?"),
    (["nope"], "nope: no such command"),
    (["--nope"], "--nope: no such command"),
    (["nope\n\033[1m"], "nope??[1m"),
    (["inspect"], "socket is missing"),
    (["inspect", "a", "b"], "b: one socket at a time"),
    (["inspect", "--jsn", "a"], "--jsn: no such option"),
    (["inspect", "--json=yes", "a"], "--json=yes: takes no value"),
    (["run", "--memory"], "--memory: needs a value"),
    (["run", "--memory=12Q"], "--memory=12Q: not a size"),
    (["run", "--memory=0"], "--memory=0: not a size"),
    (["run", "--memory=1000000"], "not a size in whole MiB"),
    (["run", "--cpus=0"], "--cpus=0: not a number from 1"),
    (["run", "--cpus=two"], "--cpus=two: not a number"),
    (["run", "--name=../up"], "--name=../up: a name is"),
    (["run", "--append=x"], "--append: needs --kernel"),
    (["run", "--initrd=x"], "--initrd: needs --kernel"),
    (["run", "--kernel=/k", f"--append={'x' * 2048}"], "no more than 2047 bytes"),
    (["run", "-m", "1G"], "-m: no such option"),
    (["run", "disk.img"], "QEMU's arguments come after --"),
    (["run", "--device", "edu,"], 'edu: "" is no key=value'),
    (["run", "--device", "edu,--fd=3"], "is no key=value"),
    (["run", "--device", "=x"], "is no device"),
    (["run", "--device", "rtc"], "--device rtc: no PCI device, and QEMU attaches no others"),
    (["run", "--device=edu", "--device=serial,id=a,bus=platform", "--dry-run"], "no PCI device"),
    (["run", "--device", "./mine.so,bus=platform"], "no PCI device"),
    (["run", "--device=edu,id=a", "--device=edu,id=a"], "id=a: another device has this name"),
    (["run", "--device=edu,bootindex=x"], "bootindex=x: not a number"),
    (["run", "--device=serial,path=-", "--device=serial,path=-"], "serial0 has the terminal"),
])
def test_wrong_usage(words, why):
    result = outboard(*words)
    assert_fails(result, 2, why)
    assert "--help)" in result.stderr


# --- inspect ----------------------------------------------------------------------------------

def test_inspect_edu(serve):
    server = serve("edu")
    text = outboard("inspect", server.socket)
    assert text.returncode == 0 and text.stderr == "", text.stderr
    assert "Protocol: vfio-user 0.1\n" in text.stdout
    assert re.search(r"^ +0 BAR0 +size 0x100000 +read write$", text.stdout, re.M)
    assert re.search(r"^ +0 INTx +count 1 +eventfd maskable automasked$", text.stdout, re.M)
    assert "Device [1234:11e8] (rev 10)\n" in text.stdout
    assert "\tRegion 0: Memory at <unassigned> (32-bit, non-prefetchable) [disabled] [size=1M]\n" \
        in text.stdout
    assert re.search(r"^\tCapabilities: \[\w+\] MSI: Enable- Count=1/1 ", text.stdout, re.M)

    result = outboard("inspect", "--json", server.socket)
    assert result.returncode == 0
    facts = json.loads(result.stdout)
    assert facts["protocol"]["major"] == 0 and facts["protocol"]["minor"] == 1
    assert facts["regions"][0] == {"index": 0, "name": "BAR0", "size": 1 << 20,
                                   "flags": ["read", "write"]}
    assert facts["interrupts"][1]["name"] == "MSI" and facts["interrupts"][1]["count"] == 1
    config = facts["config"]
    assert (config["vendor"], config["device"]) == (0x1234, 0x11e8)
    assert config["bars"] == [{"kind": "mem32", "index": 0, "prefetchable": False,
                               "enabled": False, "address": 0, "size": 1 << 20}]
    msi = [c for c in config["capabilities"] if c["name"] == "MSI"]
    assert len(msi) == 1 and msi[0]["vectors"] == 1 and msi[0]["enabled"] is False
    assert len(bytes.fromhex(config["bytes"])) == facts["regions"][7]["size"]
    assert facts["migration"]["supported"] is (" no\n" not in text.stdout)


def message(number, command, payload, error=0):
    flags = 1 | (32 if error else 0)
    return struct.pack("<HHIII", number, command, 16 + len(payload), flags, error) + payload


def version(number=0):
    return message(number, 1, struct.pack("<HH", 0, 1) + b'{"capabilities":{}}\0')


def test_inspect_a_server_that_has_a_client(serve):
    server = serve("edu")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server.socket))
        body = struct.pack("<HH", 0, 1)
        client.sendall(struct.pack("<HHIII", 0, 1, 16 + len(body), 0, 0) + body)
        assert client.recv(4096)
        assert_fails(outboard("inspect", server.socket), 1, "the server has a client already")
    wait_for(lambda: outboard("inspect", server.socket).returncode == 0)


class Peer:
    """A server of one connection that answers each command by answer(number, command, body)."""

    def __init__(self, folder, answer):
        self.path = folder / "peer"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.answer = answer

    def inspect(self, *options):
        command = child([OUTBOARD, "inspect", self.path, *options], stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, text=True)
        connection, _ = self.listener.accept()
        with connection:
            while header := connection.recv(16, socket.MSG_WAITALL):
                number, code, size, _, _ = struct.unpack("<HHIII", header)
                body = connection.recv(size - 16, socket.MSG_WAITALL) if size > 16 else b""
                reply = self.answer(number, code, body)
                if reply is None:
                    break
                connection.sendall(reply)
        out, err = command.communicate(timeout=60)
        return subprocess.CompletedProcess([], command.returncode, out, err)


def hostile_config(number, code, body):
    """A device whose config space is a chain of capabilities that ends in itself."""
    space = bytearray(256)
    space[0x06] = 0x10
    space[0x34] = 0x40
    space[0x40:0x42] = bytes([0x05, 0xfc])
    space[0xfc:0xfe] = bytes([0x10, 0x40])
    if code == 1:
        return version(number)
    if code == 4:
        return message(number, 4, struct.pack("<IIII", 16, 2, 9, 1))
    if code == 5:
        index = struct.unpack_from("<I", body, 8)[0]
        if index == 3:
            return message(number, 5, b"", error=5)
        size = 256 if index == 7 else 0
        return message(number, 5, struct.pack("<IIIIQQ", 32, 3 if size else 0, index, 0, size, 0))
    if code == 7:
        return message(number, 7, struct.pack("<IIII", 16, 0, 0, 0))
    if code == 9:
        at, region, count = struct.unpack("<QII", body)
        return message(number, 9, body + space[at:at + count])
    return message(number, code, b"", error=95)


def test_inspect_a_hostile_config_space(tmp_path):
    result = Peer(tmp_path, hostile_config).inspect()
    assert result.returncode == 0, result.stderr
    assert "[40] MSI: Enable-" in result.stdout
    assert "[fc] Express" in result.stdout
    assert result.stdout.endswith("\tCapabilities: [40] <chain looped>\n")
    assert re.search(r"^ +3 BAR3 +refused: Input/output error$", result.stdout, re.M)
    assert "Migration: no\n" in result.stdout


def test_inspect_a_hostile_config_space_as_json(tmp_path):
    result = Peer(tmp_path, hostile_config).inspect("--json")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["regions"][3] == {"index": 3, "name": "BAR3", "error": "Input/output error"}
    assert facts["config"]["capabilities"][-1]["fault"] == "chain looped"
    assert facts["migration"] == {"supported": False}


@pytest.mark.parametrize("answer", [
    lambda number, code, body: None,
    lambda number, code, body: b"garbage, garbage, garbage, garbage",
    lambda number, code, body: version(number) if code == 1 else None,
    lambda number, code, body: version(number) if code == 1 else version(number),
], ids=["closes", "garbage", "vanishes", "wrong-reply"])
def test_inspect_a_broken_server(tmp_path, answer):
    assert_fails(Peer(tmp_path, answer).inspect(), 1, "inspect: ")


@pytest.mark.parametrize("path, why", [
    ("nothing", "No such file or directory"),
    ("x" * 200, "File name too long"),
    (".", "Connection refused"),
])
def test_inspect_no_server(tmp_path, path, why):
    assert_fails(outboard("inspect", path, cwd=tmp_path), 1, why)


# --- run --------------------------------------------------------------------------------------

class Runner:
    """`outboard run` with a stand-in for QEMU, so that no guest is needed."""

    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "qemu.args"
        self.name = f"t{os.getpid()}-{folder.name}"[:60]
        runtime = folder / "r"
        runtime.mkdir()
        top = Path("/run") if os.geteuid() == 0 else runtime
        self.rundir = top / "outboard" / self.name
        self.env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "OUTBOARD_ACCEL": "tcg"}
        self.fake("exec sleep 1000")

    def fake(self, then, version="10.1.0"):
        path = self.folder / "qemu"
        path.write_text(FAKE_QEMU.format(version=version, log=self.log, then=then))
        path.chmod(0o755)
        self.env["OUTBOARD_QEMU"] = str(path)

    def run(self, *words, **env):
        return outboard("run", f"--name={self.name}", *words, env={**self.env, **env})

    def start(self, *words):
        return child([OUTBOARD, "run", f"--name={self.name}", *words], env=self.env,
                     stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def started(self):
        """Waits until QEMU runs; returns its arguments."""
        wait_for(self.log.exists)
        return self.log.read_text().splitlines()

    def children(self, process):
        path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        return {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                for pid in path.read_text().split()}

    def child_named(self, process, word):
        return next(pid for pid, argv in self.children(process).items() if word in argv)

    def assert_clean(self, pids=()):
        assert not self.rundir.exists()
        for pid in pids:
            assert not Path(f"/proc/{pid}").exists(), Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def test_run_returns_the_status_of_qemu(runner):
    for status in 0, 7:
        runner.fake(f"exit {status}")
        result = runner.run("--device=edu", "--memory=64M", "--", "-S", "-x", "a b")
        assert result.returncode == status, result.stderr
        assert result.stderr == ""
        words = runner.log.read_text().splitlines()
        assert words[-3:] == ["-S", "-x", "a b"]
        assert "memory-backend-memfd,id=mem,size=64M,share=on" in words
        device = json.loads(words[words.index("-device", words.index("-device") + 1) + 1])
        assert device == {"driver": "vfio-user-pci", "id": "edu0", "bus": "edu0-port",
                          "socket": {"type": "unix", "path": f"{runner.rundir}/edu0.sock"}}
        runner.assert_clean()
    runner.fake("kill -KILL $$")
    assert runner.run().returncode == 128 + signal.SIGKILL


def test_run_starts_qemu_when_its_devices_listen(runner):
    runner.fake(f"for s in a b; do [ -S {runner.rundir}/$s.sock ] || exit 9; done")
    result = runner.run("--device=edu,id=a", "--device=edu,id=b")
    assert result.returncode == 0, result.stderr
    runner.assert_clean()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_run_ends_cleanly(runner, number):
    process = runner.start("--device=edu", "--device=serial,path=pty")
    runner.started()
    children = runner.children(process)
    assert len(children) == 3
    assert stat.S_IMODE(runner.rundir.stat().st_mode) == 0o700
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM  # how the stand-in takes it
    assert err == ""
    runner.assert_clean(children)


def test_run_killed_takes_its_children_along(runner):
    process = runner.start("--device=edu")
    runner.started()
    children = runner.children(process)
    process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in children))
    # What it left is no obstacle to the next one.
    runner.fake("exit 0")
    assert runner.run("--device=edu").returncode == 0
    runner.assert_clean()


def test_run_says_that_a_device_died(runner):
    process = runner.start("--device=edu", "--device=edu,id=other")
    runner.started()
    os.kill(runner.child_named(process, f"--socket-path={runner.rundir}/other.sock".encode()),
            signal.SIGKILL)
    line = process.stderr.readline()
    while line.startswith("outboard: edu: "):  # its worker's last words
        line = process.stderr.readline()
    assert line.startswith("outboard: run: other ended") and "signal 9" in line
    assert process.poll() is None
    process.terminate()
    said = process.communicate(timeout=30)[1]
    assert all(line.startswith("outboard: edu: ") for line in said.splitlines())
    runner.assert_clean()


@pytest.mark.parametrize("device, why", [
    ("nosuch", "nosuch: no such device"),
    ("edu,nokey=1", "nokey"),
    ("serial,path=/nowhere/x/y", "/nowhere/x/y"),
    ("./mine.so", "./mine.so"),
])
def test_run_with_a_device_that_does_not_start(runner, device, why):
    result = runner.run("--device=edu", "--device", device)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and why in result.stderr
    assert not runner.log.exists()
    runner.assert_clean()


def test_run_refuses_a_name_in_use(runner):
    process = runner.start("--device=edu")
    runner.started()
    assert_fails(runner.run(), 1, f"{runner.name}: a VM of this name is running")
    assert process.poll() is None and (runner.rundir / "edu0.sock").exists()
    process.terminate()
    process.communicate(timeout=30)
    runner.assert_clean()


def test_run_without_a_name_takes_a_free_one(runner):
    first = child([OUTBOARD, "run"], env=runner.env, stderr=subprocess.DEVNULL)
    words = runner.started()
    runner.log.unlink()
    second = child([OUTBOARD, "run"], env=runner.env, stderr=subprocess.DEVNULL)
    other = runner.started()
    names = [argv[argv.index("-name") + 1] for argv in (words, other)]
    assert names[0] != names[1] and all(re.fullmatch(r"vm\d+", name) for name in names)
    for process in first, second:
        process.terminate()
        process.wait(timeout=30)
    assert not any((runner.rundir.parent / name).exists() for name in names)


@pytest.mark.parametrize("version, why", [
    ("7.2.11", "QEMU 7.2 is too old, 10.1 or newer is needed"),
    ("10.0.3", "QEMU 10.0 is too old"),
    ("next", "does not say which version of QEMU it is"),
])
def test_run_with_a_qemu_that_will_not_do(runner, version, why):
    runner.fake("exit 0", version)
    assert_fails(runner.run("--device=edu"), 1, why)
    runner.assert_clean()


def test_run_without_qemu(runner):
    assert_fails(runner.run(OUTBOARD_QEMU="/nowhere/qemu"), 1, "OUTBOARD_QEMU=/nowhere/qemu")
    assert_fails(runner.run(OUTBOARD_QEMU="", PATH="/nowhere"), 1, "not found on PATH")
    assert_fails(runner.run(OUTBOARD_ACCEL="fast"), 1, "OUTBOARD_ACCEL=fast")
    assert_fails(runner.run("--kernel=/nowhere/k"), 1, "/nowhere/k: No such file or directory")
    runner.assert_clean()


def test_dry_run_can_be_pasted(runner):
    result = runner.run("--dry-run", "--memory=64M", "--device", "edu,id=a", "--device",
                        "serial,path=it's $HOME,,here", "--", "-S", "two words")
    assert result.returncode == 0 and result.stderr == ""
    assert not runner.rundir.exists()
    lines = result.stdout.splitlines()
    words = [shlex.split(line) for line in lines]
    assert words[0] == ["mkdir", "-p", str(runner.rundir)]
    assert words[1][1:] == ["serve", "edu", f"--socket-path={runner.rundir}/a.sock",
                            f"--control-path={runner.rundir}/a.control", "&"]
    assert words[2][1:] == ["serve", "serial", "path=it's $HOME,here",
                            f"--socket-path={runner.rundir}/serial0.sock",
                            f"--control-path={runner.rundir}/serial0.control", "&"]
    assert len(lines) == 4

    # A shell gives QEMU the same words as `run` does.
    runner.fake("exit 0")
    subprocess.run(["sh", "-c", lines[3]], check=True, env=runner.env)
    pasted = runner.log.read_text()
    result = runner.run("--memory=64M", "--device", "edu,id=a", "--device",
                        f"serial,path={runner.folder}/it's $HOME,,here", "--", "-S", "two words")
    assert result.returncode == 0, result.stderr
    assert runner.log.read_text() == pasted
