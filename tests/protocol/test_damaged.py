"""A successor that finds a damaged block, or one of another version: the device fails, and nothing loops.

The block is written by this test in the place of a worker that went wild, through the keeper's descriptor.
"""

import contextlib
import os
import random
import signal
import struct

import pytest

import raw
from devices import Edu
from raw import BAR0

PARTS = 24  # where they stand in the header: name, offset, size
WORD, UNDO_WORD, UNDO_USED = (PARTS + 16 * 32 + 8 * i for i in range(3))


class Block:
    """The memory file of a server's device."""

    def __init__(self, server):
        folder = f"/proc/{server.keeper}/fd"
        path, = (f"{folder}/{n}" for n in os.listdir(folder) if "outboard-block" in os.readlink(f"{folder}/{n}"))
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self):
        os.close(self.fd)

    def put(self, offset, data):
        os.pwrite(self.fd, data, offset)

    def part(self, name):
        for i in range(16):
            part, offset, size = struct.unpack("=16sQQ", os.pread(self.fd, 32, PARTS + 32 * i))
            if part.rstrip(b"\0").decode() == name:
                return offset, size
        raise KeyError(name)

    def fill(self, name, byte):
        offset, size = self.part(name)
        self.put(offset, bytes([byte]) * min(size, 1 << 20))


@pytest.fixture
def damage(serve, connect):
    """damage(device...) is (server, its client, its block); the worker is to be killed by the test."""
    blocks = []

    def start(*device):
        server = serve(*device)
        c = connect(server)
        c.map(0x10000, 0x10000, raw.memory_file(0x10000))
        blocks.append((Block(server), server))
        return server, c, blocks[-1][0]

    yield start
    for block, server in blocks:
        block.close()
        assert server.log.read_text().count(": the worker ") < 40  # it did not go round and round


def ends(c):
    """A request is answered, well or with an error, or the connection ends. Then the client goes."""
    try:
        id = c.send(raw.REGION_READ, struct.pack("=QII", 0, BAR0, 4))
        while c.receive().id != id:
            pass
        return False
    except (ConnectionError, EOFError):
        return True
    finally:
        c.close()


def is_served(server, connect):
    """By a device, or by one that has failed."""
    return connect(server).get32(BAR0, 0) != 0xffffffff


HEADER = {"magic": 0, "layout": 8, "count": 12, "size": 16, "name": PARTS + 32, "offset": PARTS + 32 + 16,
          "part size": PARTS + 32 + 24}


@pytest.mark.parametrize("where", HEADER)
def test_a_header_of_another_version(damage, connect, where):
    server, c, block = damage("edu")
    block.put(HEADER[where], b"\x77")
    os.kill(server.pid, signal.SIGKILL)
    assert ends(c)
    assert not is_served(server, connect)
    said = server.log.read_text()
    assert "another build" in said and "has failed" in said and "client is sent away" in said
    assert said.count("\n") < 40


def test_a_file_of_another_size(damage, connect):
    server, c, block = damage("edu")
    os.ftruncate(block.fd, 4096)
    os.kill(server.pid, signal.SIGKILL)
    assert ends(c) and not is_served(server, connect)


def test_the_failed_device_can_be_ended_and_lives_through_deaths(damage, connect):
    server, c, block = damage("edu")
    block.put(0, b"\x77")
    os.kill(server.pid, signal.SIGKILL)
    assert ends(c)
    late = connect(server)
    for _ in range(5):
        os.kill(server.pid, signal.SIGKILL)
        assert late.get32(BAR0, Edu.ID) == 0xffffffff
    server.stop()


def test_a_message_under_way_in_a_block_that_nobody_can_read(damage, connect):
    """Workers seem to die of the message. Those that are to refuse it cannot read the block either."""
    server, c, block = damage("edu")
    word, = struct.unpack("=Q", os.pread(block.fd, 8, WORD))
    block.put(UNDO_WORD, struct.pack("=QQQ", word, 0, 2))  # a step of a message is open
    block.put(0, b"\x77")
    os.kill(server.pid, signal.SIGKILL)
    assert ends(c) and not is_served(server, connect)


LOGS = [0xfffffffffffffff8, 8, 1 << 40, 64, 1 << 20, 3]


@pytest.mark.parametrize("used", LOGS)
def test_a_log_that_undoes_nonsense(damage, connect, used):
    """A step is open, of which the log was written by nobody."""
    server, c, block = damage("edu")
    word, = struct.unpack("=Q", os.pread(block.fd, 8, WORD))
    block.put(UNDO_WORD, struct.pack("=QQ", word, used))
    os.kill(server.pid, signal.SIGKILL)
    ends(c)
    is_served(server, connect)


@pytest.mark.parametrize("byte", [0xff, 0x01])
@pytest.mark.parametrize("part", ["session", "input", "output", "regions", "irqs", "work", "device", "config",
                                  "migration", "facts", "recorder", "table"])
@pytest.mark.parametrize("device", ["edu", "nvme"])
def test_parts_full_of_nonsense(damage, connect, tmp_path, device, part, byte):
    (tmp_path / "disk").write_bytes(bytes(65536))
    server, c, block = damage(*([device, f"file={tmp_path}/disk"] if device == "nvme" else [device]))
    block.fill(part, byte)
    os.kill(server.pid, signal.SIGKILL)
    ends(c)
    is_served(server, connect)


@pytest.mark.parametrize("seed", range(20))
def test_nonsense_anywhere(damage, connect, tmp_path, seed):
    """A few numbers at places that a seed chooses, of a disk's block: such a device may also be silent."""
    chance = random.Random(seed)
    (tmp_path / "disk").write_bytes(bytes(65536))
    server, c, block = damage("nvme", f"file={tmp_path}/disk")
    for _ in range(20):
        name = chance.choice(["session", "regions", "irqs", "work", "device", "migration"])
        offset, size = block.part(name)
        at = chance.randrange(min(size, 4096)) & ~7
        block.put(offset + at, struct.pack("=Q", chance.choice([chance.getrandbits(64), chance.getrandbits(16),
                                                                0xffffffffffffffff, 1 << 31])))
    os.kill(server.pid, signal.SIGKILL)
    c.socket.settimeout(2)
    with contextlib.suppress(TimeoutError):
        ends(c)
