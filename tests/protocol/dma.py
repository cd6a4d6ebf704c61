"""Transfers that a test makes the devices do."""

import struct

from devices import Edu, Probe
from raw import BAR0, TIMEOUT


def edu_start(c, source, destination, size, to_ram, irq=False):
    for register, value in (Edu.SOURCE, source), (Edu.DESTINATION, destination), (Edu.COUNT, size):
        c.write(BAR0, register, struct.pack("=Q", value))
    command = Edu.RUN | (Edu.TO_RAM if to_ram else 0) | (Edu.IRQ if irq else 0)
    c.write(BAR0, Edu.COMMAND, struct.pack("=Q", command))


def edu_running(c):
    return c.read(BAR0, Edu.COMMAND, 8)[0] & Edu.RUN


def edu_dma(c, source, destination, size, to_ram):
    """Of memory that is mapped: done before anything else is answered."""
    edu_start(c, source, destination, size, to_ram)
    assert not edu_running(c)


def probe_start(c, command, address, offset, size, channel=0):
    base = Probe.CHANNEL + 32 * channel
    for register, value in (Probe.ADDRESS_LOW, address), (Probe.ADDRESS_HIGH, address >> 32), \
                           (Probe.MEMORY, offset), (Probe.SIZE, size), (Probe.NEXT, 0), \
                           (Probe.COMMAND, command):
        c.set32(BAR0, base + register, value)


def probe_learn(c):
    """Shows the server, by the reply to a first DMA_READ, that this client follows the specification."""
    probe_start(c, Probe.READ, 0, Probe.MEMORY_SIZE - 1, 1, channel=7)
    m = c.receive_command()
    c.reply_to(m, m.body + b"\xff")
    assert probe_result(c, 7) == (1, 0)


def probe_result(c, channel=0):
    """(transfers that ended, error of the last)"""
    base = Probe.CHANNEL + 32 * channel
    return c.get32(BAR0, base + Probe.DONE), c.get32(BAR0, base + Probe.RESULT)


def probe_dma(c, command, address, offset, size):
    """Of memory that is mapped. Returns the error."""
    done, _ = probe_result(c)
    probe_start(c, command, address, offset, size)
    assert c.get32(BAR0, Probe.CHANNEL + Probe.COMMAND) == 0, "it did not begin"
    assert probe_result(c)[0] == done + 1
    return probe_result(c)[1]
