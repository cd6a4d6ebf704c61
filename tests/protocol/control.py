"""The control socket of a keeper, byte by byte: src/keeper/control.h."""

import collections
import os
import socket
import struct

import raw

STATUS, UPGRADE = 1, 2

REQUEST = struct.Struct("=II")
STATUS_LAYOUT = struct.Struct("=ii9Iii4Ii5Q64s")
ANSWER = struct.Struct(f"=iI{STATUS_LAYOUT.size}s256s")

Status = collections.namedtuple(
    "Status", "keeper worker number role ready seats held killed crashed ended refused "
              "last_signal last_status last_core upgrades undone reserved client pause upgrade_pause "
              "last_death keeper_started worker_started name")
Answer = collections.namedtuple("Answer", "result status why fds")


class Control:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(path))  # which waits while too many do
        self.socket.settimeout(raw.TIMEOUT)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, packet, fds=()):
        socket.send_fds(self.socket, [packet], list(fds))

    def receive(self):
        packet, fds, _, _ = socket.recv_fds(self.socket, 65536, 8)
        if not packet:
            raise EOFError("the keeper closed the connection")
        result, size, status, why = ANSWER.unpack(packet)
        assert size == ANSWER.size == len(packet)
        return Answer(result, Status(*STATUS_LAYOUT.unpack(status)), why.rstrip(b"\0").decode(), fds)

    def ask(self, packet, fds=()):
        self.send(packet, fds)
        return self.receive()

    def status(self):
        """The status; the descriptor of the block is closed."""
        answer = self.ask(REQUEST.pack(STATUS, REQUEST.size))
        assert answer.result == 0
        for fd in answer.fds:
            os.close(fd)
        return answer.status
