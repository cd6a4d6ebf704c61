"""Firmware boots a guest from the NVMe disk, and Linux takes the disk over from it."""

import hashlib
import shutil

import pytest

from bootable import bios_disk, uefi_disk
from nvme import FIO, MIB, complaints, fio
from vm import DEPS

SIZE = 96 * MIB


def seabios(folder):
    return []  # QEMU's own


def edk2(folder):
    variables = folder / "variables.fd"
    shutil.copy(DEPS / "ovmf/OVMF_VARS_4M.fd", variables)
    drive = "if=pflash,format=raw,file="
    return ["-drive", f"{drive}{DEPS}/ovmf/OVMF_CODE_4M.fd,readonly=on", "-drive",
            f"{drive}{variables}"]


@pytest.mark.slow
@pytest.mark.parametrize("make, firmware, cpus, options", [
    (bios_disk, seabios, 1, []), (bios_disk, seabios, 4, ["readonly=on"]), (uefi_disk, edk2, 2, [])],
    ids=["seabios", "seabios-readonly", "edk2"])
def test_boots(serve, boot, tmp_path, make, firmware, cpus, options):
    image = tmp_path / "disk.img"
    make(image, SIZE, files=FIO)
    checksum = hashlib.md5(image.read_bytes()).hexdigest()
    server = serve("nvme", f"file={image}", *options)
    vm = boot(devices=[(server, {"bootindex": 0})], cpus=cpus, firmware=firmware(tmp_path),
              timeout=120)
    for again in False, True:
        if again:
            vm.reboot(timeout=120)
        assert vm.check("md5sum < /dev/nvme0n1", timeout=60).split()[0] == checksum
    if not options:
        # Linux works on the disk that the firmware has left to it: behind all that it booted from.
        assert fio(vm, rw="randwrite", bs="64k", offset="64m", size="16m", iodepth=16,
                   verify="crc32c") == (16 * MIB, 16 * MIB)
    assert complaints(vm) == ""
    vm.poweroff()
