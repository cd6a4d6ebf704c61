"""An NVMe disk that Linux's own driver uses."""

import subprocess

MIB = 1 << 20


def disk(folder, size=256 * MIB, name="disk.img"):
    path = folder / name
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def test_file_system_survives(serve, boot, tmp_path):
    image = disk(tmp_path)
    vm = boot(devices=[serve("nvme", f"file={image}")])
    assert vm.check("cat /sys/block/nvme0n1/size").strip() == str(256 * MIB // 512)
    vm.check("mke2fs /dev/nvme0n1 && mkdir -p /mnt && mount -t ext4 /dev/nvme0n1 /mnt")
    vm.check("dd if=/dev/urandom of=/mnt/data bs=1M count=64", timeout=120)
    checksum = vm.check("md5sum < /mnt/data").split()[0]
    vm.check("umount /mnt")
    vm.poweroff()
    subprocess.run(["/sbin/e2fsck", "-fn", image], check=True)
    data = subprocess.run(["/sbin/debugfs", "-R", "cat data", image], check=True,
                          capture_output=True).stdout
    import hashlib
    assert hashlib.md5(data).hexdigest() == checksum
