"""Workers that run no device code: one refuses a message that kills, another serves a device that has failed. They take
over what any device was: with and without areas, MSI-X, PCI."""

import errno
import os

import pytest

import raw
from devices import MORTAL, MORTAL_NVME, PROBE
from program import fail
from raw import BAR0, CONFIG, memory_file, refused

ONES = 0xffffffff
PCI = 2
MORTAL_NUMBER, MORTAL_DEADLY = 0, 4
NVME_CAP, NVME_CC, NVME_DEADLY = 0, 0x14, 0xff8

NVME = [["nvme"], ["nvme", "msix=off"], ["nvme", "doorbells=mapped"], ["nvme", "doorbells=mapped", "msix=off"],
        ["nvme", "engine=threads", "readonly=on"]]
OTHERS = [["serial", "path=pty"], ["serial", "path=pty", "bus=platform"], ["rtc"], ["edu"], [str(PROBE)],
          [str(PROBE), "bus=platform"]]


def words(device, tmp_path):
    """With a file, if it is a disk."""
    if "nvme" not in device[0]:
        return device
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    return [device[0], f"file={tmp_path}/disk", *device[1:]]


def description(c):
    """All that a client is told of the device."""
    info = c.device_info()
    said = [info]
    for index in range(info[2]):
        region, tail, fds = c.region_info(index, 4096)
        for fd in fds:
            os.close(fd)
        said.append((region, tail, len(fds)))
    said += [c.irq_info(index) for index in range(info[3])]
    if info[1] & PCI:
        said.append(c.read(CONFIG, 0, 256))
    return said


def first_register(c):
    """(region, offset, width) of one that is not shared memory."""
    return BAR0, 0, 4 if c.region_info(BAR0, 4096)[0][3] >= 64 else 1


def check_failed(c, before):
    """It is what it was, and dead."""
    region, offset, width = first_register(c)

    assert c.read(region, offset, width) == b"\xff" * width
    c.write(region, offset, bytes(width))
    assert c.read(region, offset, width) == b"\xff" * width
    assert description(c) == before
    c.map(0x100000, 0x10000, memory_file(0x10000))
    c.unmap(0x100000, 0x10000)
    c.reset()


@pytest.mark.parametrize("device", NVME + OTHERS, ids=lambda device: " ".join(device).split("/")[-1])
def test_failed(serve, connect, tmp_path, device):
    server = serve(*words(device, tmp_path))
    c = connect(server)
    before = description(c)
    c.map(0x10000, 0x10000, memory_file(0x10000))
    event = raw.Event()
    c.set_irqs(0, raw.DATA_EVENTFD | raw.TRIGGER, fds=[event])
    fail(server)
    check_failed(c, before)
    c.unmap(0x10000, 0x10000)
    c.close()
    c = connect(server)
    assert description(c)[:-1] == before[:-1]  # config space was reset
    check_failed(c, description(c))
    log = server.log.read_text()
    assert "cannot inherit" not in log and "client is sent away" not in log


@pytest.mark.parametrize("bus", ["pci", "platform"])
def test_a_message_that_kills_is_refused(serve, connect, bus):
    server = serve(str(MORTAL), f"bus={bus}")
    c = connect(server)
    before = description(c)
    c.set32(BAR0, MORTAL_NUMBER, 5)
    for _ in range(2):
        with refused(errno.EIO):
            c.set32(BAR0, MORTAL_DEADLY, 1)
        assert c.get32(BAR0, MORTAL_NUMBER) == 5
    fail(server)
    check_failed(c, before)


@pytest.mark.parametrize("device", [[str(MORTAL_NVME), *device[1:]] for device in NVME],
                         ids=lambda device: " ".join(device[1:]) or "nvme")
def test_a_message_that_kills_the_disk_is_refused(serve, connect, tmp_path, device):
    server = serve(*words(device, tmp_path))
    c = connect(server)
    before, capabilities = description(c), c.read(BAR0, NVME_CAP, 8)
    c.map(0x10000, 0x10000, memory_file(0x10000))
    for _ in range(2):
        with refused(errno.EIO):
            c.set32(BAR0, NVME_DEADLY, 1)
        assert c.read(BAR0, NVME_CAP, 8) == capabilities != b"\xff" * 8
    assert description(c) == before
    c.set32(BAR0, NVME_CC, 6 << 16 | 4 << 20)
    assert c.get32(BAR0, NVME_CC) == 6 << 16 | 4 << 20
    c.unmap(0x10000, 0x10000)
    log = server.log.read_text()
    assert log.count("it is refused") == 2
    assert "cannot inherit" not in log and "the device has failed" not in log
