"""Device processes are replaced by other builds under a running guest, or nearly."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from nvme import FIO, MIB, VERIFY, complaints, disk, fio
from program import OUTBOARD

BUILD = Path(OUTBOARD).resolve().parent
NEXT = BUILD / "tests/upgrade/outboard-next"


class Background:
    """Runs a function while the block runs, which ends with it; its failure is the block's."""

    def __init__(self, work):
        self.work, self.error = work, None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        try:
            self.work()
        except BaseException as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    @property
    def busy(self):
        return self.thread.is_alive()

    def __exit__(self, *_):
        self.thread.join()
        if self.error:
            raise self.error


def upgrade(control, binary, status=0):
    done = subprocess.run([OUTBOARD, "upgrade", control, f"--binary={binary}"], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def in_trouble(tmp_path, kind):
    path = tmp_path / f"outboard.{kind}"
    shutil.copy(NEXT, path)
    return path


def killed_at_once(server, control):
    """An upgrade whose worker is killed in its first second."""
    old = server.pid
    with subprocess.Popen([OUTBOARD, "upgrade", control, f"--binary={NEXT}"], stderr=subprocess.PIPE,
                          text=True) as command:
        with contextlib.suppress(OSError):
            while server.pid == old or os.readlink(f"/proc/{server.pid}/exe") != str(NEXT):
                time.sleep(0.001)
        time.sleep(0.2)
        os.kill(server.pid, signal.SIGKILL)
        said = command.stderr.read()
    assert command.returncode == 1 and "first second" in said, said


@pytest.fixture
def machine(serve, boot, tmp_path):
    control = tmp_path / "control"
    server = serve("nvme", f"file={disk(tmp_path, size=64 * MIB)}", options=[f"--control-path={control}"])
    vm = boot(devices=[server], memory="512M", files=FIO)
    yield server, control, vm
    vm.poweroff()


def under_fio(vm, work):
    """Meanwhile the guest writes and verifies, and once more when all is over."""
    assert fio(vm, **VERIFY) == (64 * MIB, 64 * MIB)
    with Background(work) as background:
        while background.busy:
            assert fio(vm, **VERIFY) == (64 * MIB, 64 * MIB)
    fio(vm, **VERIFY, verify_only=1)
    assert complaints(vm) == ""


def test_upgrades(machine):
    server, control, vm = machine
    before = len(os.listdir(f"/proc/{server.keeper}/fd"))
    pauses = []

    def work():
        for binary in [OUTBOARD, NEXT, NEXT, NEXT, NEXT]:
            pauses.append(float(re.search(r"pause ([\d.]+) ms", upgrade(control, binary)).group(1)))
        subprocess.run([OUTBOARD, "upgrade", control, "--keeper"], check=True, capture_output=True)

    under_fio(vm, work)
    print("pauses in ms:", pauses)
    assert os.readlink(f"/proc/{server.pid}/exe") == str(NEXT)
    assert len(os.listdir(f"/proc/{server.keeper}/fd")) <= before


def test_upgrades_that_fail(machine, tmp_path):
    """The old build goes on: from what it was, or from what the new one, laid out otherwise, has done since."""
    server, control, vm = machine

    def work():
        for kind, why in [("exit", "status 9"), ("abort", "killed by signal"), ("soon", "in its first second"),
                          ("soon", "in its first second")]:
            assert why in upgrade(control, in_trouble(tmp_path, kind), status=1)
        for _ in range(2):
            killed_at_once(server, control)
        assert "ended with status 1" not in upgrade(control, NEXT)
        assert "older" in upgrade(control, OUTBOARD, status=1)

    under_fio(vm, work)
    assert os.readlink(f"/proc/{server.pid}/exe") == str(NEXT)
    assert "the device has failed" not in server.log.read_text()
