"""The teaching device: its registers by message."""

import math
import mmap
import os
import subprocess
import time

import pytest

from devices import Edu
from program import OUTBOARD
from raw import (BAR0, CONFIG, INTX, MSI, DATA_EVENTFD, DATA_NONE, TIMEOUT, TRIGGER, UNMASK, Event,
                 memory_file)

COMPUTING, FACTORIAL_IRQ = 1, 0x80
MEMORY = 0x10000000


def get64(client, register):
    return int.from_bytes(client.read(BAR0, register, 8), "little")


def set64(client, register, value):
    client.write(BAR0, register, value.to_bytes(8, "little"))


def wait_while(bit, get):
    deadline = time.monotonic() + TIMEOUT
    while get() & bit:
        assert time.monotonic() < deadline, "the device does not finish"


def interrupt(client, index=INTX):
    event = Event()
    client.set_irqs(index, DATA_EVENTFD | TRIGGER, fds=[event])
    return event


def unmask(client):
    client.set_irqs(INTX, DATA_NONE | UNMASK)


def test_identity(edu, connect):
    c = connect(edu)
    assert c.read(CONFIG, 0, 4) == b"\x34\x12\xe8\x11"
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    c.set32(BAR0, Edu.ID, 0)
    assert c.get32(BAR0, Edu.ID) == 0x010000ed
    c.set32(BAR0, Edu.LIVENESS, 0x12345678)
    assert c.get32(BAR0, Edu.LIVENESS) == 0xedcba987


def test_what_is_not_a_register(edu, connect):
    c = connect(edu)
    for at in 0x0c, 0x60, 0x64, 0x84, 0xa0, Edu.BUFFER, (1 << 20) - 4:
        c.set32(BAR0, at, 0)
        assert c.get32(BAR0, at) == 0xffffffff
    c.set32(BAR0, Edu.LIVENESS, 5)
    set64(c, Edu.ID, 0)  # eight bytes where registers have four
    assert get64(c, Edu.ID) == (1 << 64) - 1
    assert c.get32(BAR0, Edu.LIVENESS) == 0xfffffffa


def test_wide_registers(edu, connect):
    c = connect(edu)
    for register in Edu.SOURCE, Edu.DESTINATION, Edu.COUNT:
        set64(c, register, 0x1122334455667788)
        assert get64(c, register) == 0x1122334455667788
        assert c.get32(BAR0, register) == 0x55667788
        c.set32(BAR0, register, 7)
        assert get64(c, register) == 7
    set64(c, Edu.COMMAND, Edu.TO_RAM | Edu.IRQ)  # without "run": ignored
    assert get64(c, Edu.COMMAND) == 0


@pytest.mark.parametrize("n", [0, 1, 2, 5, 12, 13, 33, 34, 35, 1000, 0x7fffffff, 0xffffffff])
def test_factorial(edu, connect, n):
    c = connect(edu)
    event = interrupt(c)
    c.set32(BAR0, Edu.STATUS, 0xffffffff)
    assert c.get32(BAR0, Edu.STATUS) == FACTORIAL_IRQ
    c.set32(BAR0, Edu.FACTORIAL, n)
    event.wait()
    assert c.get32(BAR0, Edu.STATUS) == FACTORIAL_IRQ
    assert c.get32(BAR0, Edu.IRQ_STATUS) == 1
    assert c.get32(BAR0, Edu.FACTORIAL) == (math.factorial(n) % (1 << 32) if n < 34 else 0)


def test_factorial_without_interrupt(edu, connect):
    c = connect(edu)
    c.set32(BAR0, Edu.FACTORIAL, 5)
    wait_while(COMPUTING, lambda: c.get32(BAR0, Edu.STATUS))
    assert c.get32(BAR0, Edu.FACTORIAL) == 120
    assert c.get32(BAR0, Edu.IRQ_STATUS) == 0


def test_wire_is_high_until_all_is_acknowledged(edu, connect):
    c = connect(edu)
    event = interrupt(c)
    c.set32(BAR0, Edu.RAISE, 0)
    assert event.count() == 0
    c.set32(BAR0, Edu.RAISE, 0xff00)
    assert event.count() == 1
    unmask(c)
    assert event.count() == 1
    c.set32(BAR0, Edu.ACKNOWLEDGE, 0x0f00)
    assert c.get32(BAR0, Edu.IRQ_STATUS) == 0xf000
    unmask(c)
    assert event.count() == 1
    c.set32(BAR0, Edu.ACKNOWLEDGE, 0xffffffff)
    unmask(c)
    assert event.count() == 0
    assert c.get32(BAR0, Edu.IRQ_STATUS) == 0


def test_messages(edu, connect):
    c = connect(edu)
    wire, message = interrupt(c), interrupt(c, MSI)
    for bit in range(10):
        c.set32(BAR0, Edu.RAISE, 1 << bit)
        assert message.count() == 1
    assert c.get32(BAR0, Edu.IRQ_STATUS) == 0x3ff
    assert wire.count() == 0
    c.set32(BAR0, Edu.ACKNOWLEDGE, 0x3ff)
    assert (wire.count(), message.count()) == (0, 0)


def test_back_to_the_wire_with_something_raised(edu, connect):
    c = connect(edu)
    wire = interrupt(c)
    interrupt(c, MSI)
    c.set32(BAR0, Edu.RAISE, 1)
    assert wire.count() == 0
    c.set_irqs(MSI, DATA_NONE | TRIGGER, count=0)
    assert wire.count() == 1


def transfer(c, source, destination, count, command):
    set64(c, Edu.SOURCE, source)
    set64(c, Edu.DESTINATION, destination)
    set64(c, Edu.COUNT, count)
    set64(c, Edu.COMMAND, command | Edu.RUN)
    wait_while(Edu.RUN, lambda: get64(c, Edu.COMMAND))
    assert get64(c, Edu.COMMAND) == command


@pytest.fixture
def dma(serve, connect, memory):
    """A client with 1 MiB of memory at MEMORY: (client, server, the memory)."""
    server = serve("edu", "dma_mask=0xffffffff")
    c = connect(server)
    fd = memory(1 << 20)
    c.map(MEMORY, 1 << 20, fd)
    c.bus_master()
    with mmap.mmap(fd, 1 << 20) as ram:
        yield c, server, ram


def test_dma(dma):
    c, _, ram = dma
    event = interrupt(c)
    data = os.urandom(4096)
    ram[:4096] = data
    transfer(c, MEMORY, Edu.BUFFER, 4096, Edu.IRQ)
    event.wait()
    assert c.get32(BAR0, Edu.IRQ_STATUS) == 0x100
    transfer(c, Edu.BUFFER, MEMORY + 0x2000, 4096, Edu.TO_RAM)
    assert ram[0x2000:0x3000] == data
    transfer(c, Edu.BUFFER + 100, MEMORY + 0x4001, 7, Edu.TO_RAM)
    assert ram[0x4000:0x4009] == b"\0" + data[100:107] + b"\0"
    transfer(c, MEMORY, Edu.BUFFER + 4095, 1, 0)
    transfer(c, Edu.BUFFER, MEMORY + 0x5000, 4096, Edu.TO_RAM)
    assert ram[0x5000:0x6000] == data[:4095] + data[:1]


def test_dma_mask_cuts_the_address(dma):
    c, _, ram = dma
    ram[:4] = b"here"
    transfer(c, 0xdead00000000 + MEMORY, Edu.BUFFER, 4, 0)
    transfer(c, Edu.BUFFER, 0x700000000 + MEMORY + 16, 4, Edu.TO_RAM)
    assert ram[16:20] == b"here"


@pytest.mark.parametrize("source, destination, count, command", [
    (MEMORY, Edu.BUFFER + 1, 4096, 0), (MEMORY, Edu.BUFFER - 1, 1, 0), (MEMORY, 0, 4, 0),
    (MEMORY, Edu.BUFFER + 4096, 1, 0), (MEMORY, Edu.BUFFER, 4097, 0),
    (MEMORY, Edu.BUFFER, (1 << 64) - 1, 0), (MEMORY, (1 << 64) - 1, 2, 0),
    (MEMORY, Edu.BUFFER + 16, (1 << 64) - 8, 0), (Edu.BUFFER + 4090, MEMORY, 7, Edu.TO_RAM),
    (0, MEMORY, 1, Edu.TO_RAM), (0, Edu.BUFFER, 16, 0), (MEMORY + (1 << 20) - 1, Edu.BUFFER, 2, 0),
    (Edu.BUFFER, MEMORY + (1 << 20) - 1, 2, Edu.TO_RAM)])
def test_dma_that_goes_wrong_is_over_and_moves_nothing(dma, source, destination, count, command):
    c, server, ram = dma
    event = interrupt(c)
    before = ram[:]
    for _ in range(3):
        transfer(c, source, destination, count, command | Edu.IRQ)
        event.wait()
        c.set32(BAR0, Edu.ACKNOWLEDGE, 0x100)
        unmask(c)
    assert ram[:] == before
    said = server.log.read_text().splitlines()
    assert len(said) == 1 and said[0].startswith("outboard: edu: DMA of ")


def test_dma_of_nothing(dma):
    c, server, _ = dma
    transfer(c, MEMORY, Edu.BUFFER + 4096, 0, 0)
    assert server.log.read_text() == ""


def test_dma_needs_bus_mastering(dma):
    c, _, ram = dma
    c.bus_master(False)
    ram[:4] = b"mine"
    transfer(c, Edu.BUFFER, MEMORY, 4, Edu.TO_RAM)
    assert ram[:4] == b"mine"


def test_reset(edu, connect):
    c = connect(edu)
    event = interrupt(c)
    c.set32(BAR0, Edu.LIVENESS, 1)
    set64(c, Edu.SOURCE, 1)
    c.set32(BAR0, Edu.STATUS, FACTORIAL_IRQ)
    c.set32(BAR0, Edu.RAISE, 2)
    event.wait()
    c.set32(BAR0, Edu.FACTORIAL, 5)
    c.reset()
    unmask(c)
    assert event.count() == 0
    assert [c.get32(BAR0, at) for at in (Edu.LIVENESS, Edu.FACTORIAL, Edu.STATUS,
                                         Edu.IRQ_STATUS)] == [0] * 4
    assert get64(c, Edu.SOURCE) == 0
    c.set32(BAR0, Edu.FACTORIAL, 3)  # the timer of before does not answer for this one
    wait_while(COMPUTING, lambda: c.get32(BAR0, Edu.STATUS))
    assert c.get32(BAR0, Edu.FACTORIAL) == 6


@pytest.mark.parametrize("mask", ["", "28", "0xff00", "-1x", "0x1ffffffffffffffff", "all"])
def test_masks_that_are_none(tmp_path, mask):
    done = subprocess.run([OUTBOARD, "serve", "edu", f"dma_mask={mask}",
                           f"--socket-path={tmp_path}/socket"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and "one less than a power of two" in done.stderr
