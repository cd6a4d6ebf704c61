"""PCI config space as a client sees it, and what writes to it do."""

import struct

import pytest

from devices import Edu, Probe
from raw import (BAR0, BAR5, CONFIG, DATA_EVENTFD, INTX, MSI, MSIX, TRIGGER, Event)

PM, MSI_CAP, VENDOR, EXPRESS, MSIX_CAP = 0x01, 0x05, 0x09, 0x10, 0x11


def capabilities(c):
    """[(id, offset)] along the list."""
    assert c.get16(CONFIG, 6) & 0x10
    found, at = [], c.read(CONFIG, 0x34, 1)[0]
    while at:
        assert at >= 0x40 and at % 4 == 0 and len(found) < 48
        id, following = c.read(CONFIG, at, 2)
        found.append((id, at))
        at = following
    return found


def offset(c, id):
    return dict(capabilities(c))[id]


def test_identity(probe, connect):
    c = connect(probe)
    header = c.read(CONFIG, 0, 64)
    assert struct.unpack_from("<HH", header, 0) == (0x1234, 0x0b0a)
    assert header[8:12] == bytes([3, 0x00, 0x80, 0x08])  # revision, then the class code
    assert header[14] == 0  # one function, type 0
    assert struct.unpack_from("<HH", header, 0x2c) == (0x4321, 0x0c0d)
    assert header[0x3d] == 1  # INTA#
    assert header[0x30:0x34] == bytes(4)  # no ROM


def test_subsystem_is_the_device_itself_if_not_said_otherwise(edu, connect):
    assert connect(edu).read(CONFIG, 0x2c, 4) == b"\x34\x12\xe8\x11"


def test_identity_cannot_be_written(probe, connect):
    c = connect(probe)
    before = c.read(CONFIG, 0, 64)
    for at in 0, 2, 8, 0x0e, 0x2c, 0x30, 0x34, 0x3d:
        c.write(CONFIG, at, b"\xff")
    assert c.read(CONFIG, 0, 64) == before


@pytest.mark.parametrize("bar, low, high", [
    (0, 0xfffff000, None), (1, 0xffffffe1, None), (2, 0xffffc00c, 0xffffffff),
    (4, 0xffff0000, None), (5, 0xfff00000, None)])
def test_sizing(probe, connect, bar, low, high):
    c = connect(probe)
    at = 0x10 + 4 * bar
    kind = c.get32(CONFIG, at) & 15
    c.set32(CONFIG, at, 0xffffffff)
    assert c.get32(CONFIG, at) == low
    if high is not None:
        c.set32(CONFIG, at + 4, 0xffffffff)
        assert c.get32(CONFIG, at + 4) == high
    c.set32(CONFIG, at, 0xfe400000)
    assert c.get32(CONFIG, at) == 0xfe400000 | kind


def test_sizing_by_bytes(edu, connect):
    c = connect(edu)
    for i in range(4):
        c.write(CONFIG, 0x10 + i, b"\xff")
    assert c.get32(CONFIG, 0x10) == 0xfff00000
    for i in range(1, 6):  # the other BARs are not there
        c.set32(CONFIG, 0x10 + 4 * i, 0xffffffff)
        assert c.get32(CONFIG, 0x10 + 4 * i) == 0


@pytest.mark.parametrize("device, bits", [("edu", 0x0546), ("probe", 0x0547)])
def test_command_register(request, connect, device, bits):
    c = connect(request.getfixturevalue(device))
    assert c.get16(CONFIG, 4) == 0
    c.set16(CONFIG, 4, 0xffff)
    assert c.get16(CONFIG, 4) == bits
    c.set16(CONFIG, 4, 0)
    assert c.get16(CONFIG, 4) == 0


def test_capability_list(probe, connect):
    c = connect(probe)
    ids = [id for id, _ in capabilities(c)]
    assert sorted(ids) == sorted([PM, MSI_CAP, MSIX_CAP, EXPRESS, VENDOR, VENDOR])


def test_vendor_capabilities(probe, connect):
    c = connect(probe)
    bodies = [c.read(CONFIG, at + 2, 8) for id, at in capabilities(c) if id == VENDOR]
    assert bodies[0][:6] == b"\x08\x11\x22\x33\x44\x55"
    assert bodies[1][:2] == b"\x04\xaa"
    at = offset(c, VENDOR)
    before = c.read(CONFIG, 0x40, 0xc0)
    c.write(CONFIG, at, b"\xff" * 8)
    assert c.read(CONFIG, 0x40, 0xc0) == before


def test_power_states(probe, connect):
    c = connect(probe)
    at = offset(c, PM)
    assert c.get16(CONFIG, at + 2) & 7 == 3
    c.set32(BAR0, Probe.SCRATCH, 7)
    c.set16(CONFIG, at + 4, 3)  # D3hot
    assert c.get16(CONFIG, at + 4) & 3 == 3
    c.set16(CONFIG, at + 4, 0)
    assert c.get16(CONFIG, at + 4) & 3 == 0
    assert c.get32(BAR0, Probe.SCRATCH) == 7  # it said No_Soft_Reset
    assert c.get16(CONFIG, at + 4) & 8


def test_msi_capability(probe, connect):
    c = connect(probe)
    at = offset(c, MSI_CAP)
    assert c.get16(CONFIG, at + 2) == 0x0084  # 64 bits, 4 vectors
    c.set16(CONFIG, at + 2, 0xffff)
    assert c.get16(CONFIG, at + 2) == 0x00f5
    c.write(CONFIG, at + 4, struct.pack("<IIH", 0xfee00001, 7, 0x4041))
    assert c.read(CONFIG, at + 4, 10) == struct.pack("<IIH", 0xfee00000, 7, 0x4041)


def test_msix_capability(probe, connect):
    c = connect(probe)
    at = offset(c, MSIX_CAP)
    assert c.get16(CONFIG, at + 2) == Probe.VECTOR_COUNT - 1
    assert c.get32(CONFIG, at + 4) == Probe.TABLE | 4
    assert c.get32(CONFIG, at + 8) == Probe.PBA | 4
    c.write(CONFIG, at + 2, b"\xff" * 10)
    assert c.get16(CONFIG, at + 2) == 0xc000 | (Probe.VECTOR_COUNT - 1)
    assert c.get32(CONFIG, at + 4) == Probe.TABLE | 4


def test_express_capability(probe, connect):
    c = connect(probe)
    at = offset(c, EXPRESS)
    assert c.get16(CONFIG, at + 2) & 0xff == 0x02  # version 2, an endpoint
    assert c.get32(CONFIG, at + 4) & 1 << 28       # it has a function level reset
    c.set16(CONFIG, at + 8, 0x7fff)
    assert c.get16(CONFIG, at + 8) == 0x7fff
    assert c.get32(CONFIG, 0x100) == 0  # no extended capabilities


def test_interrupt_status_follows_the_wire(edu, connect):
    c = connect(edu)
    assert c.get16(CONFIG, 6) & 8 == 0
    c.set32(BAR0, Edu.RAISE, 1)
    assert c.get16(CONFIG, 6) & 8
    assert c.read(CONFIG, 6, 1)[0] & 8 and c.read(CONFIG, 0, 64)[6] & 8
    assert c.read(CONFIG, 7, 1)[0] == 0
    c.set32(BAR0, Edu.ACKNOWLEDGE, 1)
    assert c.get16(CONFIG, 6) & 8 == 0


def test_interrupt_disable(edu, connect):
    """INTx that is asserted while it is off is told as soon as it is on."""
    c = connect(edu)
    event = Event()
    c.set_irqs(INTX, DATA_EVENTFD | TRIGGER, fds=[event])
    c.set16(CONFIG, 4, 0x400)
    c.set32(BAR0, Edu.RAISE, 1)
    assert event.count() == 0
    assert c.get16(CONFIG, 6) & 8  # the status shows it all the same
    c.set16(CONFIG, 4, 0)
    assert event.count() == 1


def test_bus_master_is_told_to_the_device(probe, connect):
    c = connect(probe)
    for i, on in enumerate([True, False, True], 1):
        c.bus_master(on)
        c.bus_master(on)
        assert c.get32(BAR0, Probe.IRQ_CHANGES) == i


def test_any_width(probe, connect):
    c = connect(probe)
    whole = c.read(CONFIG, 0, 4096)
    assert b"".join(c.read(CONFIG, i, 1) for i in range(256)) == whole[:256]
    assert c.read(CONFIG, 3, 7) == whole[3:10]
    assert whole[256:] == bytes(4096 - 256)


# ---- Function level reset -----------------------------------------------------------------------


@pytest.mark.parametrize("write", [
    lambda at: (at + 8, b"\0\x80"), lambda at: (at + 9, b"\x80"),
    lambda at: (at + 8, b"\0\x80\0\0"),
    lambda at: (at + 4, b"\0\0\0\0\x10\x80\0\0"), lambda at: (at + 9, b"\xff\xff")])
def test_function_level_reset(probe, connect, write):
    c = connect(probe)
    event = Event()
    c.set_irqs(MSI, DATA_EVENTFD | TRIGGER, fds=[event])
    fresh = c.read(CONFIG, 0, 256)
    c.set32(BAR0, Probe.SCRATCH, 7)
    c.set32(BAR0, Probe.INTX, 1)
    c.write(BAR5, 0, b"x")
    c.set16(CONFIG, 4, 0x0406)
    c.set32(CONFIG, 0x10, 0xfe000000)
    c.write(CONFIG, *write(offset(c, EXPRESS)))
    assert c.get32(BAR0, Probe.RESETS) == 1
    assert c.get32(BAR0, Probe.SCRATCH) == 0
    assert c.read(BAR5, 0, 1) == b"\0"
    assert c.read(CONFIG, 0, 256) == fresh
    c.set32(BAR0, Probe.MESSAGE, 0)
    assert event.count() == 1  # what the client set up stays


@pytest.mark.parametrize("at, data", [(8, b"\xff\x7f"), (10, b"\xff\xff"), (0, b"\xff" * 8)])
def test_what_is_no_function_level_reset(probe, connect, at, data):
    c = connect(probe)
    c.write(CONFIG, offset(c, EXPRESS) + at, data)
    assert c.get32(BAR0, Probe.RESETS) == 0


def test_no_express_no_function_level_reset(edu, connect):
    c = connect(edu)
    c.set32(BAR0, Edu.LIVENESS, 0)
    for at in range(0x40, 256):
        c.write(CONFIG, at, b"\xff")
    assert c.get32(BAR0, Edu.LIVENESS) == 0xffffffff


def test_a_disk_without_msix(serve, connect, tmp_path):
    """For clients that cannot give a device with MSI-X back: MSI is left, and nothing of the table."""
    (tmp_path / "disk").write_bytes(bytes(65536))
    # A BAR's bytes where the table would be: with MSI-X its vectors are masked after a reset.
    for option, capability, vectors, mask in ("on", True, 65, 1), ("off", False, 0, 0):
        c = connect(serve("nvme", f"file={tmp_path}/disk", "readonly=on", f"msix={option}"))
        assert (MSIX_CAP in dict(capabilities(c))) == capability
        assert MSI_CAP in dict(capabilities(c))
        assert (c.irq_info(MSIX)[1], c.irq_info(MSI)[1]) == (vectors, 32)
        assert c.get32(BAR0, 0x2000 + 12) == mask
