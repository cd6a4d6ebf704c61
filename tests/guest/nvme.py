"""What the tests of the NVMe disk share: disks, and the tools that the guest uses on them."""

import re
import subprocess

from vm import DEPS

MIB = 1 << 20

# For boot(files=...).
FIO = {DEPS / "fio": "/bin/fio"}


def nvme_cli():
    """The NVMe tools, with their libraries; for boot(files=...)."""
    folder = DEPS / "nvme-cli"
    return {file: f"/{file.relative_to(folder)}" for file in folder.rglob("*") if file.is_file()}


def disk(folder, name="disk.img", size=256 * MIB):
    path = folder / name
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def fio(vm, *words, timeout=120, **options):
    """Runs fio in the guest, with direct I/O and with what is given; returns its output."""
    return vm.check(fio_command(*words, **options), timeout=timeout)


def fio_command(*words, **options):
    options = {"name": "test", "filename": "/dev/nvme0n1", "direct": 1, "ioengine": "io_uring",
               "group_reporting": 1, **options}
    return " ".join(["fio", *(f"--{name}={value}" for name, value in options.items()), *words])


# Every block says where it belongs and is summed up; four jobs have a quarter of 64 MiB each.
VERIFY = {"rw": "randwrite", "bsrange": "4k-1m", "numjobs": 4, "size": "16m",
          "offset_increment": "16m", "iodepth": 8, "verify": "crc32c", "verify_fatal": 1}


def dmesg_complaints(vm):
    """What the guest's drivers had to say against the disk."""
    return re.findall(r".*(?:timeout|I/O error|I/O Cmd|Abort|failed|invalid|spurious).*",
                      vm.check("dmesg | grep -i nvme || true"))


def check_file_system(image):
    subprocess.run(["/sbin/e2fsck", "-fn", image], check=True)


def file_in(image, name):
    """The contents of a file in an ext file system."""
    return subprocess.run(["/sbin/debugfs", "-R", f"cat {name}", image], check=True,
                          capture_output=True).stdout
