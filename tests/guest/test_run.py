"""`outboard run`, from the command line to the guest's shell and to the end of every process."""

import itertools
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from line import Line
from program import OUTBOARD
from vm import command_line, initramfs, kernel_image, qemu

TOP = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
RUN_FILES = Path(TOP) / "outboard"
numbers = itertools.count()


def children(pid):
    """The processes that this one has started and that have not ended: {pid: command}."""
    listing = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True,
                             text=True).stdout
    return {int(pid): command for pid, command in (line.split(None, 1)
                                                   for line in listing.splitlines())}


def gone(path, seconds=10):
    deadline = time.monotonic() + seconds
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return not path.exists()


def guest(initrd):
    return [f"--kernel={kernel_image()}", f"--initrd={initrd}",
            f"--append={command_line('console=ttyS0')}"]


class Run:
    """A VM with its console on a terminal, which is ours."""

    def __init__(self, initrd, *words):
        self.name = f"test{os.getpid()}-{next(numbers)}"
        self.master, self.terminal = pty.openpty()
        self.settings = termios.tcgetattr(self.terminal)
        self.line = Line(os.dup(self.master))
        argv = [OUTBOARD, "run", f"--name={self.name}", *guest(initrd),
                "--device", "serial,path=-", "--device", "edu", *words]
        environment = {**os.environ, "OUTBOARD_QEMU": qemu(), "OUTBOARD_ACCEL": "tcg"}
        # As a shell does it: a session of its own, whose terminal this is.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=self.terminal, stdout=self.terminal, stderr=self.terminal, env=environment)
        self.folder = RUN_FILES / self.name

    def ended(self, timeout=60):
        """Its exit status; nothing of it may be left."""
        status = self.process.wait(timeout)
        assert gone(self.folder), f"{list(self.folder.iterdir())} left behind"
        assert termios.tcgetattr(self.terminal) == self.settings, "the terminal is not as it was"
        return status

    def close(self):
        self.process.kill()
        self.process.wait()
        self.line.close()
        os.close(self.master)
        os.close(self.terminal)


@pytest.fixture(scope="module")
def initrd(tmp_path_factory):
    return initramfs(tmp_path_factory.mktemp("run") / "initrd")


@pytest.fixture
def run(initrd):
    runs = []

    def start(*words):
        runs.append(Run(initrd, *words))
        return runs[-1]

    yield start
    for one in runs:
        one.close()


def test_a_session_on_the_terminal(run):
    vm = run()
    vm.line.expect("guest: ready", timeout=60)
    processes = children(vm.process.pid)
    assert len(processes) == 3, processes  # two devices, and QEMU
    assert sorted(path.name for path in vm.folder.glob("*.sock")) == ["edu0.sock", "serial0.sock"]
    table = subprocess.run([OUTBOARD, "status", vm.name], capture_output=True, text=True).stdout.splitlines()
    assert [line.split()[:3] for line in table[1:]] == \
        [[f"{vm.name}/{name}", device, "serving"] for name, device in (("edu0", "edu"), ("serial0", "serial"))]
    events = subprocess.run([OUTBOARD, "trace", f"{vm.name}/serial0", "--last"], capture_output=True, text=True)
    assert "VFIO_USER_REGION_WRITE BAR0 + 0x0, 1 byte, " in events.stdout
    vm.line.send("\x03")  # goes to the guest like any key
    vm.line.send("\necho $((6 * 7)) is the answer\n")
    vm.line.expect("42 is the answer")
    vm.line.send("cat /sys/bus/pci/devices/*/device\n")
    vm.line.expect("0x0002.*0x11e8")
    vm.line.send("poweroff -f\n")
    assert vm.ended() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_is_told_to_end(run, number):
    """Early, when QEMU has just been started."""
    vm = run()
    deadline = time.monotonic() + 30
    while len(processes := children(vm.process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(processes) == 3, processes
    vm.process.send_signal(number)
    vm.ended()
    assert not any(Path(f"/proc/{pid}").exists() for pid in processes)


def test_returns_what_qemu_returns(run):
    vm = run()
    vm.line.expect("guest: ready", timeout=60)
    machine = [pid for pid, command in children(vm.process.pid).items() if "-machine" in command]
    os.kill(machine[0], signal.SIGKILL)
    assert vm.ended() == 128 + signal.SIGKILL
    vm = run("--", "-device", "no-such-device")
    assert vm.ended() == 1
    vm.line.expect("no-such-device")


def test_commands_can_be_pasted(initrd, tmp_path):
    """What --dry-run prints is what a person would type to have the same VM."""
    name = f"test{os.getpid()}-{next(numbers)}"
    argv = [OUTBOARD, "run", "--dry-run", f"--name={name}", "--memory=256M", "--cpus=2",
            *guest(initrd), "--device", f"serial,path=unix:{tmp_path}/a line"]
    script = subprocess.run(argv, check=True, capture_output=True, text=True,
                            env={**os.environ, "OUTBOARD_QEMU": qemu(),
                                 "OUTBOARD_ACCEL": "tcg"}).stdout
    assert not (RUN_FILES / name).exists()
    # A person pastes the last line when the devices are there.
    *first, last = script.splitlines()
    wait = f"until [ -S '{tmp_path}/a line' ] && [ -S {RUN_FILES}/{name}/serial0.sock ]; do :; done"
    shell = subprocess.Popen(["sh", "-c", "\n".join([*first, wait, last])],
                             start_new_session=True, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not (tmp_path / "a line").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        line = Line.unix(tmp_path / "a line")
        line.expect("guest: ready", timeout=60)
        line.send("grep -c ^processor /proc/cpuinfo; poweroff -f\n")
        line.expect("\n2\r?\n")
        line.close()
        assert shell.wait(timeout=30) == 0
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait()
    assert gone(RUN_FILES / name / "serial0.sock")
    (RUN_FILES / name).rmdir()
