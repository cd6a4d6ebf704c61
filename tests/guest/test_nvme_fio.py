"""Data through the NVMe disk in guests of all shapes: what is read is what was written."""

import pytest

from nvme import FIO, MIB, VERIFY, complaints, disk, fio

SHAPES = [("512M", 1, ""), ("5G", 4, ""), ("512M", 1, "pci=nomsi"), ("5G", 4, "pci=nomsi")]


@pytest.mark.parametrize("memory, cpus, append", SHAPES)
def test_verifies(serve, boot, tmp_path, memory, cpus, append):
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}")], memory=memory, cpus=cpus, append=append,
              files=FIO)
    vectors = int(vm.check("ls /sys/class/nvme/nvme0/device/msi_irqs | wc -l"))
    assert vectors == (0 if append else cpus + 1)
    assert fio(vm, **VERIFY) == (64 * MIB, 64 * MIB)
    assert complaints(vm) == ""
    vm.poweroff()
    assert image.stat().st_blocks * 512 >= 64 * MIB


def test_verifies_with_mapped_doorbells(serve, boot, tmp_path):
    """QEMU maps the page; the driver's writes to it are no messages."""
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}", "doorbells=mapped")], cpus=2, files=FIO)
    assert fio(vm, **VERIFY) == (64 * MIB, 64 * MIB)
    assert complaints(vm) == ""
    vm.poweroff()


def test_notices_other_data(serve, boot, tmp_path):
    """That what fio verifies comes from the disk: data that was changed there is found."""
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}")], files=FIO)
    fio(vm, **VERIFY)
    with open(image, "r+b") as file:
        file.seek(40 * MIB + 2000)
        file.write(b"something else")
    with pytest.raises(AssertionError, match="bad .* offset|verify"):
        fio(vm, **VERIFY, verify_only=1)
