"""The guest's serial console and QEMU's monitor, each on a connected socket."""

import json
import re
import select
import threading
import time


class Console:
    """Collects what a serial port says, all the time, so that the guest is never held up."""

    def __init__(self, sock, log):
        self.sock = sock
        self.log = log
        self.text = ""
        self.seen = 0  # all before this has been matched by expect()
        self.closed = False
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        with open(self.log, "ab", buffering=0) as log:
            while data := self._receive():
                log.write(data)
                with self.news:
                    self.text += data.decode(errors="replace").replace("\r", "")
                    self.news.notify_all()
        with self.news:
            self.closed = True
            self.news.notify_all()

    def _receive(self):
        try:
            return self.sock.recv(65536)
        except OSError:
            return b""

    def send(self, text):
        self.sock.sendall(text.encode())

    def expect(self, pattern, timeout):
        """The first match behind the last one; None at the time-out, a panic or the end."""
        pattern = re.compile(pattern, re.DOTALL)
        deadline = time.monotonic() + timeout
        with self.news:
            while True:
                if match := pattern.search(self.text, self.seen):
                    self.seen = match.end()
                    return match
                dead = self.closed or "Kernel panic" in self.text[self.seen:]
                if dead or not self.news.wait(max(0, deadline - time.monotonic())):
                    return None

    def close(self):
        self.sock.close()
        self.thread.join(timeout=5)


class MonitorError(AssertionError):
    pass


class Monitor:
    """QMP: a command is a call, events are kept until somebody waits for them."""

    def __init__(self, sock):
        self.sock = sock
        self.pending = b""
        self.events = []
        self._message(time.monotonic() + 30)  # the greeting
        self("qmp_capabilities")

    def __call__(self, command, timeout=30, **arguments):
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        deadline = time.monotonic() + timeout
        while True:
            message = self._message(deadline)
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise MonitorError(f"QMP {command} {arguments}: {message['error']['desc']}")
            self.events.append(message)

    def wait(self, event, timeout=30, **data):
        """The next event of that name whose data has the given values; older ones count."""
        deadline = time.monotonic() + timeout
        looked_at = 0
        while True:
            for message in self.events[looked_at:]:
                if message["event"] == event and data.items() <= message.get("data", {}).items():
                    self.events.remove(message)
                    return message.get("data", {})
            looked_at = len(self.events)
            self.events.append(self._message(deadline))

    def _message(self, deadline):
        while b"\n" not in self.pending:
            left = max(0, deadline - time.monotonic())
            if not select.select([self.sock], [], [], left)[0]:
                raise MonitorError("QMP: QEMU said nothing in time")
            data = self.sock.recv(65536)
            if not data:
                raise MonitorError("QMP: QEMU closed the connection")
            self.pending += data
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def close(self):
        self.sock.close()
