"""The other end of a served serial port: a pseudo-terminal, or a socket."""

import os
import re
import select
import socket
import time


class Line:
    """Line.to(server) opens what `path=pty` or `path=unix:...` has made; close() hangs up."""

    def __init__(self, fd):
        os.set_blocking(fd, False)
        self.fd = fd
        self.got = b""

    @classmethod
    def pty(cls, server):
        name = re.search(r"^serial: (/dev/pts/\d+)$", server.log.read_text(), re.MULTILINE)
        fd = os.open(name[1], os.O_RDWR | os.O_NOCTTY)
        return cls(fd)

    @classmethod
    def unix(cls, path):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            return cls(os.dup(sock.fileno()))

    def exchange(self, data, count, timeout=60):
        """Sends data while it receives count bytes, which it returns."""
        deadline = time.monotonic() + timeout
        data = memoryview(data)
        while data or len(self.got) < count:
            left = max(0, deadline - time.monotonic())
            readable, writable, _ = select.select([self.fd], [self.fd] if data else [], [], left)
            if not readable and not writable:
                raise AssertionError(f"{len(data)} bytes not taken, {len(self.got)} of {count} "
                                     f"received within {timeout} s: ...{self.got[-200:]}")
            if readable:
                self._receive()
            if writable:
                data = data[os.write(self.fd, data[:65536]):]
        result, self.got = self.got[:count], self.got[count:]
        return result

    def send(self, text):
        self.exchange(text.encode(), 0)

    def expect(self, pattern, timeout=20):
        """Receives until the pattern is there; returns its match, and forgets what was before."""
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern.encode(), self.got, re.DOTALL)):
            left = max(0, deadline - time.monotonic())
            if not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(f"no {pattern!r} within {timeout} s: ...{self.got[-400:]}")
            self._receive()
        self.got = self.got[match.end():]
        return match

    def _receive(self):
        data = os.read(self.fd, 65536)
        assert data, f"the other end hung up: ...{self.got[-200:]}"
        self.got += data

    def close(self):
        os.close(self.fd)
