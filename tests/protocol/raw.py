"""A vfio-user client that hides nothing: messages are made here byte by byte, right or wrong.

The names are those of the specification (docs/interop/vfio-user.rst in QEMU) and <linux/vfio.h>.
"""

import collections
import contextlib
import errno
import json
import os
import select
import socket
import struct
import time

VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS = range(1, 7)
GET_IRQ_INFO, SET_IRQS, REGION_READ, REGION_WRITE, DMA_READ, DMA_WRITE, RESET = range(7, 14)
REGION_WRITE_MULTI, FEATURE, MIG_DATA_READ, MIG_DATA_WRITE = range(15, 19)

REPLY, NO_REPLY, ERROR = 0x1, 0x10, 0x20

BAR0, BAR1, BAR2, BAR3, BAR4, BAR5, ROM, CONFIG, VGA = range(9)
INTX, MSI, MSIX, ERR, REQ = range(5)

DATA_NONE, DATA_BOOL, DATA_EVENTFD = 1, 2, 4
MASK, UNMASK, TRIGGER = 8, 16, 32

MAP_READ, MAP_WRITE = 1, 2
UNMAP_ALL = 2

HEADER = struct.Struct("=HHIII")
MAX_DATA = 65536
TIMEOUT = 20  # seconds; longer than anything takes, so that only a hang gets there

Message = collections.namedtuple("Message", "id command size flags error body fds")


class Refused(Exception):
    """An error reply. errno is what it says."""

    def __init__(self, message):
        super().__init__(f"command {message.command}: {os.strerror(message.error)}")
        self.errno = message.error


@contextlib.contextmanager
def refused(error):
    """What is done inside must be answered by this error."""
    try:
        yield
    except Refused as refusal:
        assert refusal.errno == error, \
            f"refused with {errno.errorcode.get(refusal.errno)}, not {errno.errorcode[error]}"
    else:
        raise AssertionError(f"not refused, where {errno.errorcode[error]} was due")


def when_free(connect):
    """What connect() returns, once the device has no client any more: the last has not quite gone."""
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            return connect()
        except Refused as refusal:
            assert refusal.errno == errno.EBUSY and time.monotonic() < end
            time.sleep(0.01)


def message(command, body=b"", id=1, flags=0, error=0, size=None):
    return HEADER.pack(id, command, len(body) + 16 if size is None else size, flags, error) + body


def capabilities(**values):
    return json.dumps({"capabilities": values}).encode() + b"\0"


class Client:
    """One connection. Client(path) and Client(socket) negotiate, unless version is None."""

    def __init__(self, where, version=capabilities(max_msg_fds=16, max_data_xfer_size=1 << 20,
                                                   write_multiple=True)):
        if isinstance(where, socket.socket):
            self.socket = where
        else:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.connect(str(where))
        self.socket.settimeout(TIMEOUT)
        self.last_id = 0x7ff0
        self.commands = collections.deque()  # that the server sent while a reply was awaited
        self.server = None
        self.twin = None  # a Client of its own, without a version, for the server's commands
        if version is not None:
            self.server = self.negotiate(data=version)

    def close(self):
        self.socket.close()
        if self.twin:
            self.twin.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- Messages -----------------------------------------------------------------------------

    def next_id(self):
        self.last_id = (self.last_id + 1) & 0xffff
        return self.last_id

    def send_bytes(self, data, fds=()):
        """All of the data, and with its first byte the descriptors."""
        if fds:
            numbers = [fd if isinstance(fd, int) else fd.fileno() for fd in fds]
            sent = socket.send_fds(self.socket, [data], numbers)
            data = data[sent:]
        if data:
            self.socket.sendall(data)

    def send(self, command, body=b"", fds=(), id=None, flags=0, **header):
        id = self.next_id() if id is None else id
        self.send_bytes(message(command, body, id, flags, **header), fds)
        return id

    def receive_bytes(self, n):
        """n bytes, and the descriptors that came with them."""
        data, fds = b"", []
        while len(data) < n:
            more, more_fds, flags, _ = socket.recv_fds(self.socket, n - len(data), 32)
            assert not flags & socket.MSG_CTRUNC
            fds += more_fds
            if not more:
                raise EOFError(f"the server closed the connection after {len(data)} of {n} bytes")
            data += more
        return data, fds

    def receive(self):
        """The next message, whatever it is."""
        header, fds = self.receive_bytes(16)
        id, command, size, flags, error = HEADER.unpack(header)
        assert 16 <= size <= MAX_DATA + 4096, f"a message of {size} bytes"
        body, more = self.receive_bytes(size - 16)
        return Message(id, command, size, flags, error, body, fds + more)

    def receive_reply(self):
        """The next reply; commands that come before it are put aside."""
        while True:
            m = self.receive()
            if m.flags & 0xf == REPLY:
                return m
            self.commands.append(m)

    def receive_command(self):
        m = self.commands.popleft() if self.commands else self.receive()
        assert m.flags & 0xf == 0, "a reply came where a command was due"
        return m

    def reply_to(self, command, body=b"", error=0):
        flags = REPLY | (ERROR if error else 0)
        self.send_bytes(message(command.command, body, command.id, flags, error))

    def check(self, reply, command, id):
        """The reply to this command: it is one, and says nothing but that."""
        assert (reply.id, reply.command) == (id, command)
        assert reply.flags in (REPLY, REPLY | ERROR)
        if reply.flags & ERROR:
            assert reply.size == 16 and reply.error != 0 and not reply.fds
            raise Refused(reply)
        assert reply.error == 0
        return reply

    def call(self, command, body=b"", fds=(), id=None):
        id = self.send(command, body, fds, id)
        return self.check(self.receive_reply(), command, id)

    def is_silent(self):
        """Nothing is there to be read, nor will be: the server has answered something later."""
        self.call(GET_IRQ_INFO, struct.pack("=IIII", 16, 0, 0, 0))
        return not self.commands and not select.select([self.socket], [], [], 0)[0]

    def is_closed(self):
        """Reads until the server's end of the connection, which must come."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    # ---- Commands -----------------------------------------------------------------------------

    def negotiate(self, major=0, minor=1, data=b""):
        """Returns (major, minor, capabilities of the server)."""
        m = self.call(VERSION, struct.pack("=HH", major, minor) + data)
        assert m.body[-1:] == b"\0"
        values = json.loads(m.body[4:-1])["capabilities"]
        if "twin_socket" in values:
            assert values["twin_socket"] == {"supported": True, "fd_index": 0} and len(m.fds) == 1
            self.twin = Client(socket.socket(fileno=m.fds[0]), version=None)
        else:
            assert not m.fds
        return (*struct.unpack("=HH", m.body[:4]), values)

    def device_info(self, argsz=16):
        body = self.call(GET_INFO, struct.pack("=IIII", argsz, 0, 0, 0)).body
        return struct.unpack("=IIII", body)

    def region_info(self, index, argsz=32):
        """(argsz, flags, cap_offset, size, offset), bytes behind the fixed part, descriptors."""
        m = self.call(GET_REGION_INFO, struct.pack("=IIIIQQ", argsz, 0, index, 0, 0, 0))
        size, flags, echoed, cap, length, offset = struct.unpack("=IIIIQQ", m.body[:32])
        assert echoed == index
        return (size, flags, cap, length, offset), m.body[32:], m.fds

    def irq_info(self, index, argsz=16):
        """(flags, count)"""
        body = self.call(GET_IRQ_INFO, struct.pack("=IIII", argsz, 0, index, 0)).body
        size, flags, echoed, count = struct.unpack("=IIII", body)
        assert (size, echoed) == (16, index)
        return flags, count

    def read(self, region, offset, n):
        body = self.call(REGION_READ, struct.pack("=QII", offset, region, n)).body
        assert struct.unpack("=QII", body[:16]) == (offset, region, n) and len(body) == 16 + n
        return body[16:]

    def write(self, region, offset, data):
        head = struct.pack("=QII", offset, region, len(data))
        assert self.call(REGION_WRITE, head + data).body == head

    def post(self, region, offset, data):
        self.send(REGION_WRITE, struct.pack("=QII", offset, region, len(data)) + data,
                  flags=NO_REPLY)

    def write_multi(self, *writes):
        """Each write is (region, offset, data of up to 8 bytes)."""
        body = struct.pack("=Q", len(writes))
        for region, offset, data in writes:
            body += struct.pack("=QII8s", offset, region, len(data), data)
        assert self.call(REGION_WRITE_MULTI, body).body == struct.pack("=Q", len(writes))

    def get32(self, region, offset):
        return int.from_bytes(self.read(region, offset, 4), "little")

    def set32(self, region, offset, value):
        self.write(region, offset, (value & 0xffffffff).to_bytes(4, "little"))

    def get16(self, region, offset):
        return int.from_bytes(self.read(region, offset, 2), "little")

    def set16(self, region, offset, value):
        self.write(region, offset, value.to_bytes(2, "little"))

    def map(self, address, size, fd=None, offset=0, flags=MAP_READ | MAP_WRITE):
        body = struct.pack("=IIQQQ", 32, flags, offset, address, size)
        assert self.call(DMA_MAP, body, [] if fd is None else [fd]).body == b""

    def unmap(self, address, size, flags=0):
        body = struct.pack("=IIQQ", 24, flags, address, size)
        assert self.call(DMA_UNMAP, body).body == body

    def unmap_all(self):
        self.unmap(0, 0, UNMAP_ALL)

    def set_irqs(self, index, flags, start=0, count=1, fds=(), data=b""):
        body = struct.pack("=IIIII", 20 + len(data), flags, index, start, count) + data
        assert self.call(SET_IRQS, body, fds).body == b""

    def reset(self):
        assert self.call(RESET).body == b""

    def bus_master(self, on=True):
        self.set16(CONFIG, 4, 4 if on else 0)


# ---- Interrupts ---------------------------------------------------------------------------------


class Event:
    """An eventfd that counts interrupts."""

    def __init__(self):
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self):
        return self.fd

    def __del__(self):
        os.close(self.fd)

    def count(self):
        """Signals since the last count. What the server did before its last reply is in it."""
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0

    def wait(self):
        assert select.select([self.fd], [], [], TIMEOUT)[0], "no interrupt came"
        return self.count()

    def signal(self):
        os.eventfd_write(self.fd, 1)


def memory_file(size, name="guest memory"):
    fd = os.memfd_create(name)
    os.ftruncate(fd, size)
    return fd
