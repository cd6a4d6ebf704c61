"""Guests whose memory QEMU keeps to itself: every byte of DMA is a message to it, or from it."""

import os
import time

import pytest

from bootable import bios_disk
from nvme import (FIO, MIB, check_file_system, complaints, disk, file_in, fio, fio_command,
                  nvme_cli)
from test_nvme import md5, write_file


def maps_no_guest_memory(server):
    """The process holds no memory of the guest's, so what it does it does by messages."""
    held = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{server.pid}/fd")]
    return not any("memory-backend" in path for path in held)


@pytest.mark.parametrize("options, cpus, append", [
    ([], 1, ""), (["lba=4096", "direct=on"], 2, ""), (["engine=threads"], 1, "pci=nomsi")],
    ids=["plain", "direct", "wire"])
def test_file_system_survives(serve, boot, tmp_path, options, cpus, append):
    image = disk(tmp_path)
    server = serve("nvme", f"file={image}", *options)
    vm = boot(devices=[server], shared=False, cpus=cpus, append=append, files=FIO)
    checksum = write_file(vm)
    vm.reboot()
    vm.check("mkdir -p /mnt && mount -t ext4 /dev/nvme0n1 /mnt")
    assert vm.check("md5sum < /mnt/data", timeout=60).split()[0] == checksum
    vm.check("umount /mnt")
    assert maps_no_guest_memory(server)
    assert complaints(vm) == ""
    vm.poweroff()
    check_file_system(image)
    assert md5(file_in(image, "data")) == checksum


# Every block says where it belongs and is summed up.
SMALL = {"rw": "randwrite", "bsrange": "4k-1m", "numjobs": 2, "size": "4m", "offset_increment": "4m",
         "iodepth": 8, "verify": "crc32c", "verify_fatal": 1}


def test_verifies_between_resets(serve, boot, tmp_path):
    """Data is right, with a reset of the controller in the middle of it too; and the tools' commands."""
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}")], shared=False, cpus=2, files=FIO | nvme_cli())
    assert fio(vm, **SMALL) == (8 * MIB, 8 * MIB)
    vm.check("dd if=/dev/urandom of=/tmp/data bs=64k count=16; "
             "(while ! [ -e /tmp/stop ]; do dd if=/tmp/data of=/dev/nvme0n1 bs=64k seek=512 oflag=direct; "
             "done) > /dev/null 2>&1 &")
    for _ in range(3):
        vm.check("nvme reset /dev/nvme0", timeout=60)
    vm.check("touch /tmp/stop; wait", timeout=60)
    assert vm.check("md5sum < /tmp/data").split()[0] == vm.check(
        "dd if=/dev/nvme0n1 bs=64k skip=512 count=16 iflag=direct 2> /dev/null | md5sum").split()[0]
    for command in "id-ctrl", "id-ns -n 1", "smart-log", "error-log", "get-log -i 5 -l 4096":
        name, _, options = command.partition(" ")
        vm.check(f"nvme {name} /dev/nvme0 {options}")
    vm.check("nvme write-zeroes /dev/nvme0n1 -s 65536 -c 127 && nvme dsm /dev/nvme0n1 -d -s 65664 -b 128 && "
             "nvme flush /dev/nvme0n1 -n 1")
    vm.poweroff()
    with open(image, "rb") as file:
        file.seek(32 * MIB)
        assert file.read(256 * 512) == bytes(256 * 512)


@pytest.mark.slow
def test_firmware_boots(serve, boot, tmp_path):
    """SeaBIOS's driver waits with its hands on QEMU's lock: nothing may wait for QEMU meanwhile."""
    image = tmp_path / "disk.img"
    bios_disk(image, 96 * MIB, files=FIO)
    checksum = md5(image.read_bytes())
    server = serve("nvme", f"file={image}")
    vm = boot(devices=[(server, {"bootindex": 0})], shared=False, firmware=[], timeout=120)
    for again in False, True:
        if again:
            vm.reboot(timeout=120)
        assert vm.check("md5sum < /dev/nvme0n1", timeout=120).split()[0] == checksum
    assert fio(vm, rw="randwrite", bs="64k", offset="64m", size="4m", iodepth=16, verify="crc32c") == (
        4 * MIB, 4 * MIB)
    assert maps_no_guest_memory(server)
    vm.poweroff()


def test_all_at_once(serve, boot, guest_program, tmp_path):
    """Several devices, one of each kind, that all move data at the same time."""
    program = guest_program("edu.c", "edu_uio.c", "edu_vfio.c")
    image = disk(tmp_path, size=64 * MIB)
    edu, serial = serve("edu", "dma_mask=0xffffffff"), serve("serial", f"path={tmp_path}/line")
    nvme = serve("nvme", f"file={image}")
    vm = boot(devices=[edu, serial, nvme], shared=False, cpus=2, modules=["uio_pci_generic"],
              files=FIO | {program: "/bin/edu"})
    [address] = vm.pci(0x1234, 0x11e8)
    vm.bind(address, "uio_pci_generic")
    tty = vm.tty(vm.pci(0x1b36, 0x0002)[0])
    vm.check("echo 8 > /proc/sys/vm/nr_hugepages")
    vm.check(f"stty -F {tty} raw -echo; (while ! [ -e /tmp/stop ]; do echo hello > {tty}; done) &")
    vm.check("(while ! [ -e /tmp/stop ]; do dd if=/dev/nvme0n1 of=/dev/null bs=64k count=64 iflag=direct; done) "
             "> /dev/null 2>&1 &")
    for check in "dma", "dma-interrupt 20":
        vm.check(f"edu uio {address} {check}", timeout=60)
    assert fio(vm, **SMALL) == (8 * MIB, 8 * MIB)
    vm.check("touch /tmp/stop; wait", timeout=60)
    for server in edu, serial, nvme:
        assert maps_no_guest_memory(server)
    assert complaints(vm) == ""
    vm.poweroff()
    text = (tmp_path / "line").read_text()
    assert text == "hello\n" * (len(text) // 6) and text


def test_stops_and_goes_on(serve, boot, tmp_path):
    """QEMU answers the disk's messages while its guest is stopped, and nothing is lost."""
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}")], shared=False, cpus=2, files=FIO)
    vm.check(f"({fio_command(**SMALL, loops=2)} || touch /tmp/failed) > /tmp/fio 2>&1 &")
    for _ in range(5):
        time.sleep(0.5)
        vm.qmp("stop")
        time.sleep(0.2)
        vm.qmp("cont")
    vm.check("wait; cat /tmp/fio; ! [ -e /tmp/failed ]", timeout=120)
    assert complaints(vm) == ""
    vm.poweroff()


@pytest.mark.parametrize("shared, options", [(True, []), (False, ["msix=off"])],
                         ids=["shared", "messages-msi"])
def test_behind_an_iommu(serve, boot, tmp_path, shared, options):
    """Every buffer is mapped for its command alone, and unmapped after it."""
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}", *options)], shared=shared, cpus=2, files=FIO, iommu=True,
              append="iommu.strict=1")
    # Messages are remapped as well, so MSI has more than one of them.
    assert int(vm.check("ls /sys/class/nvme/nvme0/device/msi_irqs | wc -l")) == 3
    assert fio(vm, **SMALL) == (8 * MIB, 8 * MIB)
    assert complaints(vm) == ""
    vm.poweroff()
