"""The NVMe disk's controller reset, and taken away, in the middle of work."""

import pytest

from nvme import FIO, MIB, complaints, disk, fio, fio_command, nvme_cli

RESETS = 5
RESET = "echo 1 > /sys/class/nvme/nvme0/reset_controller"


def start_fio(vm, **options):
    vm.check(f"{fio_command(**options)} > /tmp/fio 2>&1 & fio=$!")


def wait_fio(vm, timeout=150):
    return vm.run("wait $fio; status=$?; cat /tmp/fio; (exit $status)", timeout=timeout)


# Linux (6.1 and later) sends again what a dead controller had before it tells the controller where
# the shadow doorbells are, and yet rings by them: in each queue, only the first time is seen. With
# one command a queue there is no second time. Without a sudden death it has nothing to send again.
ONE_EACH = {"ioengine": "psync", "iodepth": 1, "cpus_allowed": "0-3",
            "cpus_allowed_policy": "split"}


# QEMU lowers a wire when the guest next touches a register. A driver that took an entry before its interrupt
# came touches none, and the guest's kernel may have a word to say about that in the middle of fio's report.
WIRE = {"append": "pci=nomsi loglevel=1"}


@pytest.mark.parametrize("command, shape, work", [
    (RESET, {}, {}),
    (RESET, WIRE, {}),
    ("echo 1 > /sys/class/nvme/nvme0/device/reset", {}, {}),
    (f"nvme subsystem-reset /dev/nvme0 && {RESET}", {"files": FIO | nvme_cli()}, ONE_EACH)],
    ids=["controller", "controller-intx", "function", "subsystem"])
def test_reset_under_load(serve, boot, tmp_path, command, shape, work):
    """The driver deletes its queues or loses them, makes new ones, and sends again what was under
    way; no command is lost or executed late, over what came after it."""
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}")], cpus=4, **{"files": FIO, **shape})
    # Written once and verified once is soon over: it goes on until it is told to end.
    start_fio(vm, **{"rw": "randwrite", "bsrange": "4k-256k", "numjobs": 4, "size": "16m",
                     "offset_increment": "16m", "iodepth": 16, "verify": "crc32c",
                     "verify_fatal": 1, "loops": 1000, **work})
    for _ in range(RESETS):
        vm.check(f"usleep 300000; {command}", timeout=90)
        vm.check("kill -0 $fio")  # still at work: nothing that it found wrong
        assert vm.check("cat /sys/class/nvme/nvme0/state") == "live\n"
    vm.check("kill -INT $fio")
    status, said = wait_fio(vm)
    assert "err= 0" in said and "bad " not in said and "verify:" not in said, said
    # fio's own verdict over what the disk has after all that.
    assert fio(vm, rw="write", bs="64k", size="64m", iodepth=16, verify="crc32c") == (64 * MIB,) * 2
    vm.poweroff()


def test_driver_leaves_under_load(serve, boot, tmp_path):
    """All queues are deleted with commands in them: errors for who waits, and then as new."""
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}")], cpus=4, files=FIO)
    for _ in range(5):
        start_fio(vm, rw="randrw", bs="16k", numjobs=4, size="64m", iodepth=32, time_based=1,
                  runtime=60)
        vm.check("usleep 500000; echo 0000:01:00.0 > /sys/bus/pci/drivers/nvme/unbind", timeout=90)
        assert wait_fio(vm)[0] != 0
        assert vm.run("ls /dev/nvme0n1")[0] != 0
        vm.check("echo 0000:01:00.0 > /sys/bus/pci/drivers/nvme/bind")
        vm.appears("/dev/nvme0n1")
        assert fio(vm, rw="randwrite", bs="64k", size="16m", iodepth=16,
                   verify="crc32c") == (16 * MIB, 16 * MIB)
    vm.poweroff()


def test_cpus_come_and_go_under_load(serve, boot, tmp_path):
    """The driver has a pair of queues for each CPU; when one leaves, its queues run dry."""
    image = disk(tmp_path, size=64 * MIB)
    vm = boot(devices=[serve("nvme", f"file={image}")], cpus=4, files=FIO)
    start_fio(vm, rw="randwrite", bsrange="4k-64k", numjobs=4, size="16m", offset_increment="16m",
              iodepth=16, verify="crc32c", verify_fatal=1, loops=1000)
    for state in 0, 1, 0, 1:
        for cpu in 1, 2, 3:
            vm.check(f"usleep 100000; echo {state} > /sys/devices/system/cpu/cpu{cpu}/online")
    vm.check("kill -0 $fio; kill -INT $fio")
    status, said = wait_fio(vm)
    assert "err= 0" in said and "verify:" not in said, said
    assert complaints(vm) == ""
    vm.poweroff()
