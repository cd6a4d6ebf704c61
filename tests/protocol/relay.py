"""A relay between a client and a server of vfio-user, which falsifies one thing.

Whole messages and their descriptors pass in both directions; what is no message passes as it is. A fault
is an object with the methods of class Fault, below. The server behind it is as good as ever, which is why
nothing but the fault can be what a check finds.
"""

import contextlib
import os
import select
import socket
import struct
import threading
import time

HEADER = struct.Struct("=HHIII")
REPLY, NO_REPLY, ERROR = 0x1, 0x10, 0x20
LONGEST = 2 << 20  # what claims to be longer is passed on as bytes


class Message:
    """One message: the fields of its header can be changed, and its body and descriptors."""

    def __init__(self, data, fds):
        self.id, self.command, _, self.flags, self.error = HEADER.unpack(data[:16])
        self.body = bytearray(data[16:])
        self.fds = fds

    def data(self):
        return HEADER.pack(self.id, self.command, 16 + len(self.body), self.flags, self.error) + self.body

    def get(self, format, offset=0):
        """Numbers in the body, or None where it is too short."""
        if len(self.body) < offset + struct.calcsize("=" + format):
            return None
        values = struct.unpack_from("=" + format, self.body, offset)
        return values[0] if len(values) == 1 else values

    def put(self, format, offset, *values):
        struct.pack_into("=" + format, self.body, offset, *values)

    @property
    def is_reply(self):
        return self.flags & 0xf == REPLY

    def answer(self, body=b"", error=0):
        """A reply to this command that no server has made."""
        reply = Message(HEADER.pack(self.id, self.command, 16, REPLY | (ERROR if error else 0), error), [])
        reply.body = bytearray(body)
        return reply

    def serve(self, body=b""):
        """Makes an error reply one of success."""
        self.flags, self.error = REPLY, 0
        self.body = bytearray(body)

    def refuse(self, error):
        self.flags, self.error, self.body = REPLY | ERROR, error, bytearray()
        self.drop_fds()

    def drop_fds(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []


class Fault:
    """What is falsified: nothing. A session is a Session, with room for a fault's own attributes."""

    def request(self, session, message):
        """Of a command on its way to the server: what goes on, or None, or a reply instead of it."""
        return message

    def reply(self, session, request, reply):
        """Of a reply on its way to the client: changes it; None is none."""
        return reply

    def begin(self, session):
        """A client has come."""

    def received(self, session):
        """Something came from the client, a message or not."""


class Stream:
    """One direction: bytes in, messages out."""

    def __init__(self, source):
        self.source = source
        self.bytes = bytearray()
        self.fds = []      # of the message that begins at fds_at, an offset in bytes
        self.fds_at = 0
        self.raw = False   # no message was found: everything from here on is just bytes

    def receive(self):
        """False at the end."""
        data, fds, _, _ = socket.recv_fds(self.source, 1 << 18, 253)
        start = len(self.bytes)
        self.bytes += data
        if fds:
            self.fds += fds
            self.fds_at = self.last_begin(start)
        return bool(data)

    def last_begin(self, start):
        """Where the last message begins that begins behind `start`, or the one that is under way."""
        at = 0
        while len(self.bytes) >= at + 16:
            size = HEADER.unpack_from(self.bytes, at)[2]
            if size < 16 or at + size >= len(self.bytes):
                break
            at += size
        return at

    def messages(self):
        while not self.raw and len(self.bytes) >= 16:
            _, _, size, flags, _ = HEADER.unpack_from(self.bytes)
            if size < 16 or size > LONGEST:
                self.raw = True
            if self.raw or size > len(self.bytes):
                return
            fds = []
            if self.fds and self.fds_at < size:
                fds, self.fds = self.fds, []
            data = bytes(self.bytes[:size])
            del self.bytes[:size]
            self.fds_at -= size
            yield Message(data, fds)

    def rest(self):
        """Bytes and descriptors that are no message."""
        data, fds = bytes(self.bytes), self.fds
        self.bytes.clear()
        self.fds = []
        return data, fds


def send(sock, data, fds):
    try:
        if fds and data:
            sent = socket.send_fds(sock, [data], fds)
            data = data[sent:]
        sock.sendall(data)
    except OSError:
        pass
    for fd in fds:
        os.close(fd)


class Session:
    """A client and its connection to the server."""

    def __init__(self, relay, client, server, number):
        self.relay, self.client, self.server = relay, client, server
        self.number = number  # of the client, from 1
        self.fault = relay.fault
        self.pending = []  # commands without their replies
        self.lock = threading.Lock()

    def run(self):
        self.fault.begin(self)
        forth = threading.Thread(target=self.forth, daemon=True)
        forth.start()
        self.back()
        with contextlib.suppress(OSError):
            self.client.shutdown(socket.SHUT_RDWR)
        forth.join()
        self.close()

    def close(self):
        for sock in self.client, self.server:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def pass_request(self, message):
        result = self.fault.request(self, message) if not message.is_reply else message
        if result is None:
            message.drop_fds()
        elif result is not message:
            message.drop_fds()
            send(self.client, result.data(), result.fds)
        else:
            if not message.is_reply and not message.flags & NO_REPLY:
                with self.lock:
                    self.pending.append(message)
            send(self.server, message.data(), list(message.fds))

    def forth(self):
        stream = Stream(self.client)
        with contextlib.suppress(OSError):
            while stream.receive():
                self.fault.received(self)
                for message in stream.messages():
                    self.pass_request(message)
                if stream.raw:
                    send(self.server, *stream.rest())
        send(self.server, *stream.rest())
        with contextlib.suppress(OSError):
            self.server.shutdown(socket.SHUT_WR)

    def request_of(self, reply):
        with self.lock:
            for i, request in enumerate(self.pending):
                if request.id == reply.id and request.command == reply.command:
                    return self.pending.pop(i)
        return None

    def back(self):
        stream = Stream(self.server)
        with contextlib.suppress(OSError):
            while stream.receive():
                for message in stream.messages():
                    request = self.request_of(message) if message.is_reply else None
                    result = self.fault.reply(self, request, message) if request else message
                    if result is None:
                        message.drop_fds()
                    else:
                        send(self.client, result.data(), result.fds)
        send(self.client, *stream.rest())


class Relay:
    """Listens at `path` until it is closed, and connects each client to the server at `server`."""

    def __init__(self, path, server, fault):
        self.server_path, self.fault = str(server), fault
        self.socket_path = str(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.socket_path)
        self.listener.listen(64)
        self.sessions = []
        self.clients = 0  # that have connected
        self.lock = threading.Lock()
        fault.relay = self
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                select.select([self.listener], [], [])
                with self.lock:
                    client, _ = self.listener.accept()
                    self.clients += 1
                threading.Thread(target=self.connect, args=[client, self.clients], daemon=True).start()

    def connect(self, client, number):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(self.server_path)
        except OSError:
            client.close()
            return
        session = Session(self, client, server, number)
        self.sessions.append(session)
        session.run()
        self.sessions.remove(session)

    def is_last(self, session):
        """Of all that have connected by now, also those that nobody has accepted yet."""
        while True:
            with self.lock:
                if not select.select([self.listener], [], [], 0)[0]:
                    return session.number == self.clients
            time.sleep(0.001)

    def close(self):
        """Nobody is served any more."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_path)
        for session in list(self.sessions):
            session.close()
