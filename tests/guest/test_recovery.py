"""Device processes die under a running guest, which notices nothing but the time."""

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from nvme import FIO, MIB, VERIFY, complaints, disk, fio


class Killer:
    """Kills a server's worker at random moments, while the block runs."""

    def __init__(self, server, pause, seed):
        self.server, self.pause, self.kills, self.last = server, pause, 0, 0
        self.random = random.Random(seed)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stop.wait(self.random.uniform(0, 2 * self.pause)):
            with contextlib.suppress(ProcessLookupError):
                pid = self.server.pid
                os.kill(pid, signal.SIGKILL)
                self.kills += pid != self.last # one that is dying already does not count again
                self.last = pid

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid):
    """Anonymous memory, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status[status.index("RssAnon:"):].split()[1])


# `make torture GUEST=1 KILLS=1000` has more.
KILLS = int(os.environ.get("KILLS", 12))
SEED = int(os.environ.get("SEED", 1))


@pytest.mark.parametrize("append", ["", "pci=nomsi"])
def test_disk(serve, boot, tmp_path, append):
    server = serve("nvme", f"file={disk(tmp_path, size=64 * MIB)}")
    vm = boot(devices=[server], memory="512M", append=append, files=FIO)
    assert fio(vm, **VERIFY) == (64 * MIB, 64 * MIB)
    before, size = open_files(server.keeper), memory(server.keeper)
    runs = 0
    with Killer(server, pause=0.25, seed=SEED) as killer:
        while killer.kills < KILLS:
            assert fio(vm, timeout=600, **VERIFY) == (64 * MIB, 64 * MIB)
            runs += 1
    fio(vm, timeout=600, **VERIFY, verify_only=1)
    assert complaints(vm) == ""
    assert open_files(server.keeper) == before
    assert memory(server.keeper) <= size + 64
    assert server.log.read_text().count("killed by signal 9") >= KILLS
    print(f"seed {SEED}: {killer.kills} kills during {runs} runs of fio; keeper {size} KiB before, "
          f"{memory(server.keeper)} KiB after, {before} descriptors")
    vm.poweroff()


def test_serial_port(serve, boot, tmp_path):
    """What the guest prints comes out once, and in order."""
    out = tmp_path / "line"
    server = serve("serial", f"path={out}")
    vm = boot(devices=[server])
    with Killer(server, pause=0.05, seed=2) as killer:
        vm.check("for i in $(seq 2000); do echo line $i; done > /dev/ttyS1", timeout=120)
        while killer.kills < 5:
            time.sleep(0.01)
    vm.check("stty -F /dev/ttyS1 > /dev/null; sleep 1")
    vm.poweroff()
    lines = out.read_text().replace("\r", "").splitlines()
    assert lines == [f"line {i}" for i in range(1, 2001)]
