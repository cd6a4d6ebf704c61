"""REGION_WRITE_MULTI with function level resets in it, which change much and may have to wait."""

import struct

import raw
from devices import Probe
from raw import BAR0, BAR5, CONFIG, REGION_WRITE_MULTI

GUEST = 0x10000


def function_reset(c):
    """The write that resets the function: (region, offset, data)."""
    at = c.read(CONFIG, 0x34, 1)[0]
    while c.read(CONFIG, at, 1)[0] != 0x10:  # PCI Express
        at = c.read(CONFIG, at + 1, 1)[0]
    return CONFIG, at + 8, struct.pack("=H", 0x8000)


def test_resets_in_one_message(probe, connect):
    """Each changes a megabyte of state."""
    c = connect(probe)
    n = (65536 - 8) // 24
    c.write_multi(*[function_reset(c)] * n)
    assert c.get32(BAR0, Probe.RESETS) == n


def test_a_reset_between_writes_waits_for_memory(probe, connect, memory):
    """Also for memory that was pinned by a write before it in the same message."""
    c = connect(probe)
    c.bus_master()
    c.map(GUEST, 4096, memory(4096))
    c.write_multi((BAR5, 0, b"before"), (BAR0, Probe.PIN_ADDRESS, struct.pack("=I", GUEST)),
                  (BAR0, Probe.PIN_MS, struct.pack("=I", 200)), function_reset(c),
                  (BAR5, 6, b"after"))
    assert c.get32(BAR0, Probe.RESETS) == 1
    assert c.read(BAR5, 0, 11) == bytes(6) + b"after"
    c.unmap(GUEST, 4096)


def test_a_client_that_goes_while_such_a_reset_waits(probe, connect, memory):
    c = connect(probe)
    c.bus_master()
    c.map(GUEST, 4096, memory(4096))
    writes = ((BAR0, Probe.PIN_ADDRESS, struct.pack("=I", GUEST)),
              (BAR0, Probe.PIN_MS, struct.pack("=I", 200)), function_reset(c))
    c.send(REGION_WRITE_MULTI, struct.pack("=Q", 3) + b"".join(
        struct.pack("=QII8s", at, region, len(data), data) for region, at, data in writes))
    c.close()
    c = raw.when_free(lambda: connect(probe))
    assert c.get32(BAR0, Probe.RESETS) == 0
    c.write_multi((BAR0, Probe.SCRATCH, struct.pack("=I", 7)))
    assert c.get32(BAR0, Probe.SCRATCH) == 7
