"""Guest memory that the device holds by pointer: what takes it away has to wait."""

import errno
import mmap
import os
import select
import struct

import pytest

from devices import Probe
from dma import probe_dma
from test_migration import STOP, go
from raw import (BAR0, BAR2, BAR5, DMA_MAP, DMA_UNMAP, REGION_WRITE, RESET, UNMAP_ALL, refused,
                 when_free)

PAGE = 4096


def dma_map(address, size):
    return struct.pack("=IIQQQ", 32, 3, 0, address, size)


def dma_unmap(address, size, flags=0):
    return struct.pack("=IIQQ", 24, flags, address, size)


class Pin:
    """The device holds the page at `address` until release(), which works while messages wait."""

    def __init__(self, c, address):
        _, _, (fd,) = c.region_info(BAR2)
        self.memory = mmap.mmap(fd, 0x4000)
        os.close(fd)
        self.memory[Probe.HOLD] = 1
        c.set32(BAR0, Probe.PIN_ADDRESS, address)
        c.set32(BAR0, Probe.PIN_MS, 0)
        assert is_held(c)

    def release(self):
        self.memory[Probe.HOLD] = 0


def is_held(c):
    return c.get32(BAR0, Probe.PIN_MS) == 1


def has_answer(c, seconds):
    return bool(select.select([c.socket], [], [], seconds)[0])


@pytest.fixture
def c(probe, connect, memory):
    """A client with two pages of memory, at 0 and above."""
    c = connect(probe)
    c.bus_master()
    fd = memory(2 * PAGE)
    c.map(0, PAGE, fd)
    c.map(PAGE, PAGE, fd, PAGE)
    return c


@pytest.mark.parametrize("command, body", [
    (DMA_UNMAP, dma_unmap(0, PAGE)), (DMA_UNMAP, dma_unmap(0, 0, UNMAP_ALL)),
    (DMA_UNMAP, dma_unmap(0, 1 << 63)), (RESET, b"")])
def test_what_waits_for_the_device(c, command, body):
    pin = Pin(c, 0)
    id = c.send(command, body)
    assert not has_answer(c, 0.1)
    pin.release()
    c.check(c.receive(), command, id)
    assert not is_held(c)


def test_other_memory_does_not_wait(c):
    pin = Pin(c, 0)
    c.unmap(PAGE, PAGE)
    c.map(PAGE, PAGE)
    assert is_held(c)
    pin.release()
    c.unmap(0, PAGE)
    c.bus_master()
    c.set32(BAR0, Probe.PIN_MS, 0)
    assert c.get32(BAR0, Probe.PIN_MS) == errno.EFAULT


def test_the_device_may_start_nothing_while_a_message_waits(c):
    c.set32(BAR0, Probe.SCRATCH, 77)
    pin = Pin(c, 0)
    c.set32(BAR0, Probe.TIMER + 8, 50)  # tries to pin as well
    id = c.send(DMA_UNMAP, dma_unmap(0, PAGE))
    assert not has_answer(c, 0.2)
    pin.release()
    c.check(c.receive(), DMA_UNMAP, id)
    while not c.get32(BAR0, Probe.TICKS + 8):
        pass
    assert c.get32(BAR0, Probe.SCRATCH) == errno.EBUSY
    assert c.get32(BAR0, Probe.MEMORY_CHANGES) == 1


def test_messages_behind_one_that_waits_keep_their_order(c, memory):
    """Among them maps with descriptors, and more bytes than the server keeps of a stream."""
    fds = [memory(PAGE) for _ in range(3)]
    c.unmap(PAGE, PAGE)
    pin = Pin(c, 0)
    c.send(DMA_UNMAP, dma_unmap(0, PAGE), id=1)
    for i, fd in enumerate(fds):
        c.send(DMA_MAP, dma_map(i * PAGE, PAGE), [fd], id=2 + i)
    for i in range(2):
        data = bytes([i + 1]) * 40000
        c.send(REGION_WRITE, struct.pack("=QII", i << 16, BAR5, len(data)) + data, id=9)
    assert not has_answer(c, 0.1)
    pin.release()
    assert [c.receive().id for _ in range(6)] == [1, 2, 3, 4, 9, 9]
    for i, fd in enumerate(fds):
        assert probe_dma(c, Probe.WRITE, i * PAGE, i % 2 << 16, 8) == 0
        assert os.pread(fd, 8, 0) == bytes([i % 2 + 1]) * 8


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("waits", [False, True])
def test_a_client_that_goes_meanwhile(probe, connect, c, memory, lost, waits):
    """The device ends what it does in that client's memory before another one comes."""
    fd = memory(PAGE)
    c.map(1 << 30, PAGE, fd)
    pin = Pin(c, 1 << 30)
    if lost:
        os.ftruncate(fd, 0)
        assert probe_dma(c, Probe.WRITE, 1 << 30, 0, 4) == errno.EFAULT
    if waits:
        c.send(DMA_UNMAP, dma_unmap(1 << 30, PAGE))
    c.close()
    for _ in range(3):
        with refused(errno.EBUSY):
            connect(probe)
    pin.release()
    c = when_free(lambda: connect(probe))
    assert not is_held(c)
    assert probe_dma(c, Probe.WRITE, 1 << 30, 0, 4) == errno.EFAULT


def test_memory_that_is_lost_while_the_device_holds_it(c, memory):
    fd = memory(PAGE)
    c.map(1 << 30, PAGE, fd)
    pin = Pin(c, 1 << 30)
    os.ftruncate(fd, 0)
    assert probe_dma(c, Probe.WRITE, 1 << 30, 0, 4) == errno.EFAULT
    id = c.send(DMA_UNMAP, dma_unmap(1 << 30, PAGE))
    assert not has_answer(c, 0.1)
    pin.release()
    c.check(c.receive(), DMA_UNMAP, id)
    c.map(1 << 30, PAGE, memory(PAGE))
    assert probe_dma(c, Probe.WRITE, 1 << 30, 0, 4) == 0


@pytest.mark.parametrize("command, body", [
    (DMA_UNMAP, dma_unmap(0, PAGE)), (DMA_UNMAP, dma_unmap(0, 0, UNMAP_ALL)), (RESET, b"")])
def test_what_waits_for_too_long_is_refused(c, command, body):
    """Nothing was done then, and what came behind it is answered."""
    pin = Pin(c, 0)
    c.set32(BAR0, Probe.TIMER + 8, 50)  # tries to pin as well
    id = c.send(command, body)
    behind = c.send(DMA_MAP, dma_map(PAGE, PAGE))
    with refused(errno.EBUSY):
        c.check(c.receive(), command, id)
    with refused(errno.EEXIST):
        c.check(c.receive(), DMA_MAP, behind)
    assert is_held(c)
    assert c.get32(BAR0, Probe.MEMORY_CHANGES) == 1
    pin.release()
    c.call(command, body)
    assert not is_held(c)


def test_a_stop_that_waits_for_too_long_is_refused(c):
    pin = Pin(c, 0)
    with refused(errno.EBUSY):
        go(c, STOP)
    assert is_held(c)
    pin.release()
    go(c, STOP)
