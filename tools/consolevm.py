"""A guest whose console is a `serial` device that a process of its own serves (demo, shell), and to
which more such devices may be given."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / os.environ.get("BUILD", "build")
DEPS = Path(os.environ.get("OUTBOARD_DEPS") or TOP / ".deps")
OUTBOARD = os.environ.get("OUTBOARD") or str(BUILD / "outboard")


class Machine:
    """One run of `outboard run`, from the start to the end of all its processes.

    `console` is the far end of the serial line, a connected socket. What the processes say on
    their standard error is in the file `log`.
    """

    def __init__(self, lines=24, columns=80, term="linux", devices=()):
        # Not below the build folder, whose name may be too long for a socket's.
        self.folder = Path(tempfile.mkdtemp(prefix="outboard-"))
        self.log = self.folder / "run.log"
        self.console = self.process = None
        try:
            self._start(devices, f"quiet mitigations=off console=ttyS0 "
                                 f"LINES={lines} COLUMNS={columns} TERM={term}")
        except BaseException:
            self.end()
            raise

    def _start(self, devices, append):
        image = self.folder / "initramfs.gz"
        subprocess.run([TOP / "tools/guest-image", f"--init={TOP / 'tools/guest-init'}", image],
                       check=True)
        socket_path = self.folder / "console"
        self.name = f"console-{os.getpid()}"  # for other commands of outboard
        self.argv = [OUTBOARD, "run", "--verbose", f"--name={self.name}",
                     "--memory=256M", f"--kernel={DEPS / 'kernel-cloud/vmlinuz'}",
                     f"--initrd={image}", f"--append={append}",
                     f"--device=serial,path=unix:{socket_path}",
                     *(f"--device={device}" for device in devices)]
        environment = {**os.environ, "PATH": f"{DEPS / 'bin'}:{os.environ['PATH']}"}
        with open(self.log, "wb") as log:
            # In a session of its own: Control-C is for us, and we end the others.
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=environment, start_new_session=True)
        self.console = self._connect(socket_path)

    def _connect(self, path):
        console = socket.socket(socket.AF_UNIX)
        while True:
            try:
                console.connect(str(path))
                return console
            except (FileNotFoundError, ConnectionRefusedError):
                if self.process.poll() is not None:
                    why = self.said().rstrip() or f"exit status {self.process.returncode}"
                    raise Failure(f"the machine did not start\n{why}") from None
                time.sleep(0.01)

    def wait(self, timeout=30):
        """The guest has powered itself off, or is about to: outboard run's exit status."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failure("the machine did not end") from None

    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def end(self):
        """Ends whatever still runs, and removes what was made."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.console:
            self.console.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Failure(Exception):
    """A sentence about what went wrong, and what else was said."""


def prepare():
    """Ends this program with a sentence if something that a guest needs is not there, and has a
    signal end it the way an error does: with nothing left behind."""
    for path in OUTBOARD, DEPS / "kernel-cloud/vmlinuz", DEPS / "busybox":
        if not Path(path).exists():
            sys.exit(f"{path} is not there: run `make` and `tools/setup` first")
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
