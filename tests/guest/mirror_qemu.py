#!/usr/bin/env python3
"""QEMU as a client for the mirror: the command that `outboard check --client` starts.

    mirror_qemu.py SOCKET [TIMEOUT]

There is no guest and no firmware in it: this program plays both, by QEMU's own test protocol (qtest).
It gives the mirror's device addresses, reads and writes its registers and memory, sets up MSI-X, and
resets the machine. It ends with status 0 if all went well and QEMU said nothing on stderr; with 1 if
the device could not be used, or QEMU complained; by the same signal as QEMU if that died of one.

TIMEOUT is how long QEMU waits for a reply, in milliseconds; 5000 if it is not said.
"""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from vm import qemu

SLOT = 4
BAR0, BAR2, BAR4 = 0xe0000000, 0xe0010000, 0xe0020000
MSIX = 0x40
MAGIC = int.from_bytes(b"MIRR", "little")
AREA_MAGIC = int.from_bytes(b"MEM1", "little")


class Gone(Exception):
    """QEMU has closed its end."""


class Lines:
    """A socket on which lines go both ways."""

    def __init__(self, sock):
        self.sock, self.file = sock, sock.makefile("rb")

    def send(self, line):
        try:
            self.sock.sendall(line.encode() + b"\n")
        except OSError:
            raise Gone from None

    def receive(self):
        try:
            line = self.file.readline()
        except OSError:
            line = b""
        if not line:
            raise Gone
        return line.decode().strip()


class Guest:
    def __init__(self, path, timeout):
        monitor, monitor_end = socket.socketpair()
        qtest, qtest_end = socket.socketpair()
        self.log = tempfile.TemporaryFile()
        device = {"driver": "vfio-user-pci", "bus": "pcie.0", "addr": str(SLOT),
                  "x-msg-timeout": timeout, "socket": {"type": "unix", "path": path}}
        argv = [qemu(), "-no-user-config", "-nodefaults", "-display", "none",
                "-machine", "q35,memory-backend=ram", "-accel", "tcg", "-S", "-m", "64M",
                "-object", "memory-backend-memfd,id=ram,size=64M,share=on",
                "-chardev", f"socket,id=monitor,fd={monitor_end.fileno()}",
                "-mon", "chardev=monitor,mode=control",
                "-chardev", f"socket,id=qtest,fd={qtest_end.fileno()}", "-qtest", "chardev:qtest",
                "-qtest-log", "/dev/null",
                "-device", json.dumps(device)]
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *argv],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        pass_fds=[monitor_end.fileno(), qtest_end.fileno()])
        monitor_end.close()
        qtest_end.close()
        self.monitor, self.qtest = Lines(monitor), Lines(qtest)
        self.wrong = []

    # --- what QEMU offers ---

    def qmp(self, command):
        self.monitor.send(json.dumps({"execute": command}))
        while "return" not in (said := json.loads(self.monitor.receive())):
            if "error" in said:
                self.wrong.append(f"{command}: {said['error']['desc']}")
                break

    def __call__(self, command, *numbers):
        """One command of qtest; returns the number that it answers with, if it does."""
        self.qtest.send(" ".join([command, *map(hex, numbers)]))
        while not (answer := self.qtest.receive()).startswith(("OK", "FAIL")):
            pass
        if answer.startswith("FAIL"):
            self.wrong.append(f"{command}: {answer}")
        return int(answer.split()[1], 0) if len(answer.split()) > 1 else None

    def config(self, offset, value=None, size="l", slot=SLOT):
        self("outl", 0xcf8, 0x80000000 | slot << 11 | offset & 0xfc)
        port = 0xcfc + (offset & 3)
        return self(f"in{size}", port) if value is None else self(f"out{size}", port, value)

    # --- what firmware and a driver do ---

    def expect(self, what, value, wanted):
        if value != wanted:
            self.wrong.append(f"{what} reads {value:#x}, not {wanted:#x}")

    def set_up(self):
        self.expect("config space", self.config(0), 0x6d691234)
        for register, address in ((0x10, BAR0), (0x18, BAR2), (0x20, BAR4)):
            self.config(register, 0xffffffff)
            self.config(register)
            self.config(register, address)
        self.bar2 = BAR2
        self.config(4, 6, "w")

    def use_registers(self):
        self.expect("register 0", self("readl", BAR0), MAGIC)
        self("writel", BAR0 + 0x10, 0x12345678)
        self("writew", BAR0 + 0x14, 0x9abc)
        self.expect("register 0x10", self("readl", BAR0 + 0x10), 0x12345678)
        self.expect("the area of BAR2", self("readl", self.bar2 + 0x1000), AREA_MAGIC)
        self("writel", self.bar2 + 0x2ffc, 1)
        self.expect("BAR2", self("readl", self.bar2), int.from_bytes(b"MEM0", "little"))

    def use_msix(self):
        for vector in range(2):
            for offset, value in ((0, 0xfee00000), (4, 0), (8, 0x41 + vector), (12, 0)):
                self("writel", BAR4 + 16 * vector + offset, value)
        self.config(MSIX + 2, 0x8001, "w")
        self("writel", BAR4 + 12, 1)
        self("writel", BAR4 + 12, 0)
        self.config(MSIX + 2, 0x0001, "w")

    def move_memory(self):
        """Lets the chipset show ROM and RAM in turn, so that memory is unmapped and mapped again; and
        moves BAR2, whose memory QEMU maps for the device itself, too."""
        for value in (0x33, 0x11, 0x33):
            self.config(0x91, value, "b", slot=0)
        self.bar2 = BAR2 + 0x100000
        self.config(0x18, self.bar2)

    def answer_all(self):
        """The mirror's commands are answered while it says that it waits for some."""
        for _ in range(100):
            # All ones are what a guest reads that QEMU has nothing to give to.
            if self("readl", BAR0 + 4) in (0, 0xffffffff):
                return
            time.sleep(0.005)

    def play(self):
        self.monitor.receive()
        self.qmp("qmp_capabilities")
        for _ in range(2):
            if self.wrong:
                break  # every access may take the time of QEMU's patience now
            self.set_up()
            self.use_registers()
            self.answer_all()
            self.use_msix()
            self.move_memory()
            self.use_registers()
            self.answer_all()
            self.qmp("system_reset")
        self.qmp("quit")

    # --- the end ---

    def end(self):
        """Waits for QEMU's end; returns its status, and the lines that it has said."""
        status = self.process.wait()
        self.log.seek(0)
        said = self.log.read().decode(errors="replace")
        said = re.sub(r"^qemu-system-x86_64: (-device {.*}: )?", "", said, flags=re.M)
        # Before it aborts, it prints the registers of its CPUs.
        return status, [line for line in said.splitlines() if line and "is deprecated" not in line
                        and not re.match(r"CPU #|[A-Z0-9]+ ?=", line)]


def main(path, timeout="5000"):
    guest = Guest(path, int(timeout))
    try:
        guest.play()
    except Gone:
        pass
    status, said = guest.end()
    print("\n".join(guest.wrong + said))
    sys.stdout.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(1 if status or said or guest.wrong else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
