"""What the tests of the NVMe disk share: disks, and the tools that the guest uses on them."""

import json
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


def fio_command(**options):
    options = {"name": "test", "filename": "/dev/nvme0n1", "direct": 1, "ioengine": "io_uring",
               "group_reporting": 1, **options}
    return " ".join(["fio", *(f"--{name}={value}" for name, value in options.items())])


# Every block says where it belongs and is summed up; four jobs have a quarter of 64 MiB each.
VERIFY = {"rw": "randwrite", "bsrange": "4k-1m", "numjobs": 4, "size": "16m",
          "offset_increment": "16m", "iodepth": 8, "verify": "crc32c", "verify_fatal": 1}


def fio(vm, timeout=120, **options):
    """Runs fio in the guest, with direct I/O; returns (bytes read, bytes written)."""
    said = vm.check(fio_command(**options, **{"output-format": "json"}), timeout=timeout)
    job = json.loads(said[said.index("{"):])["jobs"][0]
    return job["read"]["io_bytes"], job["write"]["io_bytes"]


def complaints(vm):
    """What the guest's kernel has to say against its disks."""
    return vm.check("dmesg | grep -iE 'nvme|blk_update|buffer' | grep -iE "
                    "'timeout|error|abort|fail|invalid|spurious|disabl|lost' || true")


def check_file_system(image):
    subprocess.run(["/sbin/e2fsck", "-fn", image], check=True)


def file_in(image, name):
    """The contents of a file in an ext file system."""
    return subprocess.run(["/sbin/debugfs", "-R", f"cat {name}", image], check=True,
                          capture_output=True).stdout
