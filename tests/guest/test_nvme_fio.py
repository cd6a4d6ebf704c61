"""Data through the NVMe disk in guests of all shapes: what is read is what was written."""

import pytest

from nvme import FIO, MIB, VERIFY, disk, dmesg_complaints, fio

SHAPES = [("512M", 1, ""), ("5G", 4, ""), ("512M", 1, "pci=nomsi"), ("5G", 4, "pci=nomsi")]


@pytest.mark.parametrize("memory, cpus, append", SHAPES)
def test_verifies(serve, boot, tmp_path, memory, cpus, append):
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}")], memory=memory, cpus=cpus, append=append,
              files=FIO)
    message_signalled = int(vm.check("ls /sys/class/nvme/nvme0/device/msi_irqs | wc -l"))
    assert message_signalled == (0 if append else cpus + 1)
    fio(vm, **VERIFY)
    assert dmesg_complaints(vm) == []
    vm.poweroff()
