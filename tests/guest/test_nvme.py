"""An NVMe disk that Linux's own driver uses."""

import hashlib
import os
import time

import pytest

from nvme import MIB, check_file_system, complaints, disk, file_in, nvme_cli


def md5(data):
    return hashlib.md5(data).hexdigest()


def write_file(vm, device="/dev/nvme0n1", megabytes=32):
    """Makes a file system with a file of random data; returns its sum."""
    vm.check(f"mke2fs -b 4096 {device} && mkdir -p /mnt && mount -t ext4 {device} /mnt && "
             f"dd if=/dev/urandom of=/mnt/data bs=1M count={megabytes}", timeout=120)
    checksum = vm.check("md5sum < /mnt/data").split()[0]
    vm.check("umount /mnt")
    return checksum


@pytest.mark.parametrize("options", [[], ["lba=4096"], ["direct=on"], ["engine=threads"],
                                     ["queues=1", "lba=4096"]], ids=" ".join)
def test_file_system_survives(serve, boot, tmp_path, options):
    image = disk(tmp_path)
    vm = boot(devices=[serve("nvme", f"file={image}", *options)], cpus=2)
    queue = "/sys/block/nvme0n1/queue"
    assert int(vm.check("cat /sys/block/nvme0n1/size")) == 256 * MIB // 512
    assert int(vm.check(f"cat {queue}/logical_block_size")) == (
        4096 if "lba=4096" in options else 512)
    checksum = write_file(vm)
    assert complaints(vm) == ""
    vm.poweroff()
    check_file_system(image)
    assert md5(file_in(image, "data")) == checksum


def test_a_guest_that_starts_anew_finds_its_data(serve, boot, tmp_path):
    image, other = disk(tmp_path), disk(tmp_path, "other")
    vm = boot(devices=[serve("nvme", f"file={image}", f"file={other}")])
    checksum = write_file(vm)
    for _ in range(2):
        vm.reboot()
        vm.check("mkdir /mnt && mount -t ext4 /dev/nvme0n1 /mnt")
        assert vm.check("md5sum < /mnt/data").split()[0] == checksum
        vm.check("umount /mnt")
        # The next start happens in the middle of writing, elsewhere.
        vm.check("while :; do dd if=/dev/zero of=/dev/nvme0n2 bs=64k oflag=direct; done "
                 "> /dev/null 2>&1 & usleep 200000")
    vm.poweroff()
    check_file_system(image)
    assert md5(file_in(image, "data")) == checksum


def test_namespaces(serve, boot, tmp_path):
    """Several of one controller, and several controllers, all at once: each its own data."""
    images = [disk(tmp_path, f"disk{n}", (64 + 16 * n) * MIB) for n in range(4)]
    devices = [serve("nvme", *(f"file={image}" for image in images[:3])),
               serve("nvme", f"file={images[3]}")]
    vm = boot(devices=devices, cpus=2)
    names = ["nvme0n1", "nvme0n2", "nvme0n3", "nvme1n1"]
    for name, image in zip(names, images):
        assert int(vm.check(f"cat /sys/block/{name}/size")) * 512 == image.stat().st_size
    for name in names:
        vm.check(f"(mke2fs /dev/{name} && mkdir -p /mnt/{name} && "
                 f"mount -t ext4 /dev/{name} /mnt/{name} && echo {name} > /mnt/{name}/name && "
                 f"dd if=/dev/urandom of=/mnt/{name}/data bs=1M count=24) > /tmp/{name} 2>&1 &")
    vm.check("wait")
    sums = [line.split()[0] for line in vm.check("md5sum /mnt/*/data").splitlines()]
    vm.check("umount /mnt/*")
    vm.poweroff()
    for name, image, checksum in zip(names, images, sums):
        check_file_system(image)
        assert file_in(image, "name") == f"{name}\n".encode()
        assert md5(file_in(image, "data")) == checksum


def test_readonly(serve, boot, tmp_path):
    image = disk(tmp_path, size=64 * MIB)
    with open(image, "r+b") as file:
        file.write(os.urandom(MIB))
    os.chmod(image, 0o444)
    before = md5(image.read_bytes())
    vm = boot(devices=[serve("nvme", f"file={image}", "readonly=on")], files=nvme_cli())
    assert vm.check("cat /sys/block/nvme0n1/ro") == "1\n"
    assert vm.check("dd if=/dev/nvme0n1 bs=1M count=64 2> /dev/null | md5sum").split()[0] == before
    assert vm.run("dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 oflag=direct")[0] != 0
    # Whoever goes past the kernel's own check is refused by the disk.
    vm.check("head -c 4096 /dev/zero > /tmp/zero")
    for command in "write -z 4096 -d /tmp/zero -c 7", "write-zeroes -c 7", "dsm -d -b 8":
        name, _, options = command.partition(" ")
        status, said = vm.run(f"nvme {name} /dev/nvme0n1 -s 0 {options}")
        assert status != 0 and "status" in said
    vm.poweroff()
    assert md5(image.read_bytes()) == before


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def test_file_that_grows(serve, boot, tmp_path):
    image, other = disk(tmp_path, size=64 * MIB), disk(tmp_path, "other", 32 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}", f"file={other}")])
    size = "cat /sys/block/nvme0n1/size /sys/block/nvme0n2/size"
    assert vm.check(size).split() == ["131072", "65536"]
    checksum = write_file(vm)
    for megabytes in 128, 256:
        os.truncate(image, megabytes * MIB)
        wait_for(lambda: int(vm.check(size).split()[0]) == megabytes * MIB // 512)
        vm.check("dd if=/dev/urandom of=/tmp/last bs=4k count=1; "
                 f"dd if=/tmp/last of=/dev/nvme0n1 bs=4k seek={megabytes * 256 - 1} oflag=direct")
        last = vm.check("md5sum < /tmp/last").split()[0]
        assert md5(image.read_bytes()[-4096:]) == last
    os.truncate(other, 48 * MIB)
    wait_for(lambda: vm.check(size).split()[1] == str(48 * MIB // 512))
    assert complaints(vm) == ""
    vm.poweroff()
    assert md5(file_in(image, "data")) == checksum


def test_file_that_shrinks(serve, boot, tmp_path):
    """The lost part gives errors, the rest goes on, and so does all of it when it comes back."""
    image = disk(tmp_path, size=64 * MIB)
    server = serve("nvme", f"file={image}")
    vm = boot(devices=[server], files=nvme_cli())
    read = "dd if=/dev/nvme0n1 of=/dev/null bs=4k count=1 iflag=direct skip="
    write = "dd if=/dev/zero of=/dev/nvme0n1 bs=4k count=1 oflag=direct seek="
    vm.check(f"{read}10240 && {write}10240")
    os.truncate(image, 32 * MIB)
    wait_for(lambda: "shorter" in server.log.read_text())
    for command in read, write:
        status, said = vm.run(f"{command}10240", timeout=60)
        assert status != 0 and "No data available" in said  # the block layer's medium error
        vm.check(f"{command}100")
    assert image.stat().st_size == 32 * MIB
    assert "errors" in vm.check("nvme error-log /dev/nvme0 -e 1 -o json")
    os.truncate(image, 64 * MIB)
    # Sizes are looked at once a second while there are writes.
    wait_for(lambda: vm.run(f"{read}10240 && {write}10240")[0] == 0)
    vm.poweroff()


# The server in a mount namespace of its own, where its disk is on a file system of 24 MiB.
SMALL = ["unshare", "--map-root-user", "--mount", "sh", "-c",
         'mount -t tmpfs -o size=24m none "$0" && truncate -s 64M "$0/disk.img" && exec "$@"']


def test_no_space(serve, boot, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    vm = boot(devices=[serve("nvme", f"file={folder}/disk.img", prefix=[*SMALL, folder])])
    vm.check("dd if=/dev/urandom of=/tmp/data bs=1M count=16")
    checksum = vm.check("md5sum < /tmp/data").split()[0]
    write = "dd if=/tmp/data of=/dev/nvme0n1 bs=1M oflag=direct"
    vm.check(write)
    status, said = vm.run(f"{write} seek=16")
    assert status != 0 and "No space left on device" in said

    def same(skip=0):
        return checksum == vm.check("dd if=/dev/nvme0n1 bs=1M count=16 iflag=direct "
                                    f"skip={skip} 2> /dev/null | md5sum").split()[0]

    # Nothing that was acknowledged is lost, and with room again it goes on.
    assert same()
    vm.check(f"blkdiscard -l {16 * MIB} /dev/nvme0n1 && {write} seek=40")
    assert same(40)
    vm.poweroff()
