"""Disks that a firmware boots Linux from: the test guest's kernel and user space, in files that are
read by nothing but the firmware's own driver."""

import struct
import subprocess
from pathlib import Path

from vm import command_line, initramfs, kernel_image

BLOCK = 512
CONSOLE = "console=ttyS0"


def padded(data, to=BLOCK):
    return data + bytes(-len(data) % to)


# --- BIOS: a boot sector of our own -----------------------------------------------------------

def assemble(folder):
    source = Path(__file__).parent / "bootsector.S"
    subprocess.run(["as", "--32", "-o", folder / "boot.o", source], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext=0x7c00", "--oformat=binary",
                    "-o", folder / "boot.bin", folder / "boot.o"], check=True)
    return (folder / "boot.bin").read_bytes()


def bios_disk(path, size, **guest):
    """Makes a disk that a BIOS boots: boot sector, command line, kernel, initramfs."""
    folder = path.parent
    sector = bytearray(assemble(folder))
    assert len(sector) == BLOCK
    words = command_line(CONSOLE).encode() + b"\0"
    assert len(words) <= BLOCK
    kernel = kernel_image().read_bytes()
    setup = ((kernel[0x1f1] or 4) + 1)  # sectors of its real-mode part
    initrd = initramfs(folder / "initramfs.gz", **guest).read_bytes()

    kernel, initrd_bytes, initrd = padded(kernel), len(initrd), padded(initrd)
    kernel_at = 2 + setup
    initrd_at = 2 + len(kernel) // BLOCK
    struct.pack_into("<IHIIII", sector, 488, 2, setup, len(kernel) // BLOCK - setup, initrd_bytes,
                     len(initrd) // BLOCK, kernel_at)
    # The initramfs comes behind the kernel, so where it begins needs no entry of its own.
    with open(path, "wb") as file:
        file.write(sector + padded(words) + kernel + initrd)
        assert file.tell() == initrd_at * BLOCK + len(initrd) <= size
        file.truncate(size)


# --- UEFI: a FAT file system with a script for the firmware's shell -----------------------------

CLUSTER = 8 * BLOCK
ROOT_ENTRIES = 512


def fat16(path, size, files):
    """Makes a FAT file system, of 16 to 256 MiB, with files in its root folder; names are 8.3."""
    sectors = size // BLOCK
    fat_sectors = -(-(sectors // 8 + 2) * 2 // BLOCK)
    table, root, data, cluster = [0xfff8, 0xffff], b"", b"", 2
    for name, content in files.items():
        stem, _, extension = name.upper().partition(".")
        root += struct.pack("<8s3sB14xHI", stem.ljust(8).encode(), extension.ljust(3).encode(),
                            0x20, cluster, len(content))
        count = -(-len(content) // CLUSTER)
        table += [*range(cluster + 1, cluster + count), 0xffff]
        cluster += count
        data += padded(content, CLUSTER)
    fat = struct.pack(f"<{len(table)}H", *table).ljust(fat_sectors * BLOCK, b"\0")
    boot = struct.pack("<3s8sHBHBHHBHHHII", b"\xeb\x3c\x90", b"outboard", BLOCK, CLUSTER // BLOCK,
                       1, 2, ROOT_ENTRIES, 0, 0xf8, fat_sectors, 63, 255, 0, sectors)
    boot += struct.pack("<BBBI11s8s", 0x80, 0, 0x29, 0x0b0a7d, b"NO NAME    ", b"FAT16   ")
    boot = boot.ljust(510, b"\0") + b"\x55\xaa"
    image = boot + fat * 2 + root.ljust(ROOT_ENTRIES * 32, b"\0") + data
    assert len(image) <= size
    with open(path, "wb") as file:
        file.write(image)
        file.truncate(size)


def uefi_disk(path, size, **guest):
    """Makes a disk that UEFI's shell boots: Linux is a program of UEFI itself."""
    script = f"fs0:\r\nvmlinuz.efi initrd=\\initrd.gz {command_line(CONSOLE)}\r\n"
    initrd = initramfs(path.parent / "initramfs.gz", **guest).read_bytes()
    fat16(path, size, {"startup.nsh": script.encode(), "initrd.gz": initrd,
                       "vmlinuz.efi": kernel_image().read_bytes()})
