"""`outboard serve` as a child process of a test."""

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent

# The program under test: another build (with sanitizers, say) is chosen by the environment.
OUTBOARD = os.environ.get("OUTBOARD") or str(TOP / "build/outboard")


def child(argv, **options):
    """Popen, for a process that must not outlive the test run, however that ends."""
    argv = ["setpriv", "--pdeathsig", "KILL", "--", *map(str, argv)]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options)


def links(pid):
    """What the descriptors of a process are; some may be closed while this looks."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def tail(path, lines=40):
    text = Path(path).read_text(errors="replace") if Path(path).exists() else ""
    return "\n".join(text.splitlines()[-lines:])


class Server:
    """One served device: Server(folder, "edu", "key=value") is listening once constructed.

    prefix       a program and its arguments that start it
    """

    def __init__(self, folder, device, *params, options=(), prefix=(), timeout=20):
        folder.mkdir(parents=True, exist_ok=True)
        self.device = device
        self.kept = "--no-keeper" not in options
        self.socket = folder / "socket"
        self.log = folder / "log"
        ready, ready_fd = os.pipe()
        argv = [*prefix, OUTBOARD, "serve", device, *params, f"--socket-path={self.socket}",
                f"--ready-fd={ready_fd}", *options]
        with open(self.log, "wb") as log:
            self.process = child(argv, pass_fds=[ready_fd], stdout=log, stderr=log)
        os.close(ready_fd)
        try:
            said = select.select([ready], [], [], timeout)[0] and os.read(ready, 1)
        finally:
            os.close(ready)
        if not said:
            self.kill()
            raise AssertionError(f"{' '.join(map(str, argv))} did not get ready "
                                 f"(exit {self.process.returncode}):\n{tail(self.log)}")

    @property
    def keeper(self):
        """The process that was started; without a keeper it is the worker."""
        return self.process.pid

    @property
    def pid(self):
        """The worker's: another one after each of its deaths."""
        children = Path(f"/proc/{self.keeper}/task/{self.keeper}/children")
        if not self.kept:
            return self.keeper
        deadline = time.monotonic() + 20
        while not (words := children.read_text().split()):
            assert time.monotonic() < deadline, "the keeper has no worker"
            time.sleep(0.001)
        return int(words[-1])  # one that was upgraded may not have ended yet

    def stop(self):
        """Ends it as a user would; it has to end cleanly (a sanitizer's finding is no clean end)."""
        if self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            status = "none within 20 s of SIGTERM"
        assert status == 0, f"serve {self.device} ended with {status}:\n{tail(self.log)}"
        assert not self.socket.exists(), f"serve {self.device} left its socket behind"

    def kill(self):
        """Ends it, keeper and worker, as nobody should. Its connections have ended when this returns."""
        if self.process.poll() is None:
            with contextlib.suppress(AssertionError, ProcessLookupError, FileNotFoundError):
                worker = os.pidfd_open(self.pid)
                self.process.kill()
                signal.pidfd_send_signal(worker, signal.SIGKILL)
                select.select([worker], [], [], 20)
                os.close(worker)
        self.process.kill()
        self.process.wait()


def fail(server, seconds=60):
    """Its workers crash, each as soon as it serves, until the device has failed."""
    said = lambda what: server.log.read_text().count(what)
    deadline = time.monotonic() + seconds
    while not said("the device has failed"):
        before = said("another worker goes on")
        os.kill(server.pid, signal.SIGILL)  # of which no sanitizer makes a long story
        while said("another worker goes on") == before and not said("the device has failed"):
            assert time.monotonic() < deadline, f"it does not fail:\n{tail(server.log)}"
            time.sleep(0.002)


@contextlib.contextmanager
def serving(folder):
    """Gives a function that starts device processes, which end with the block; and well."""
    servers = []

    def start(device, *params, **options):
        name = f"{device.rsplit('/', 1)[-1]}{len(servers)}"
        servers.append(Server(folder / name, device, *params, **options))
        return servers[-1]

    failures = []
    try:
        yield start
    finally:
        for server in servers:
            try:
                server.stop()
            except AssertionError as error:
                failures.append(str(error))
    assert not failures, "\n".join(failures)
