"""A device that has failed, in the middle of work: the guest sees that it is dead, and goes on without."""

import pytest

from nvme import MIB, disk
from program import fail

ADDRESS = "0000:01:00.0"

# Linux waits for 30 s otherwise until it looks at a disk that does not answer.
SOON = "nvme_core.io_timeout=2 nvme_core.admin_timeout=2"

GIVEN_UP = r"dmesg | grep -qE 'nvme.*(after probe failure|after reset failure|probe.*failed)'"

READS = "while dd if=/dev/nvme0n1 of=/dev/null bs=64k count=256 iflag=direct; do :; done"
WRITES = "while dd if=/dev/zero of=/dev/nvme0n1 bs=64k count=256 oflag=direct; do :; done"


def until(condition, seconds=90):
    return f"n=0; until {condition}; do usleep 100000; n=$((n + 1)); [ $n -lt {seconds * 10} ] || break; done; {condition}"


def start_work(vm):
    vm.check(f"for work in '{READS}' '{WRITES}'; do (sh -c \"$work\" > /dev/null 2>&1; echo over >> /tmp/over) & done")
    vm.check("usleep 300000; ! [ -e /tmp/over ]")


def check_dead(vm):
    """Who read and wrote got errors, and the driver has given the controller up."""
    vm.check(until("[ \"$(wc -l < /tmp/over)\" = 2 ]"), timeout=120)
    vm.check(until("! [ -e /dev/nvme0n1 ]"), timeout=120)
    vm.check(GIVEN_UP)


@pytest.mark.parametrize("words", [[], ["doorbells=mapped"]], ids=["trapped", "mapped"])
def test_disk_fails_in_the_middle_of_work(serve, boot, tmp_path, words):
    server = serve("nvme", f"file={disk(tmp_path, size=64 * MIB)}", *words)
    vm = boot(devices=[server], append=SOON)
    start_work(vm)
    fail(server)
    check_dead(vm)
    assert "client" not in server.log.read_text()  # it stayed
    vm.poweroff()


def test_failed_disk_is_taken_away(serve, boot, tmp_path):
    """And whoever gets it next finds it as dead."""
    server = serve("nvme", f"file={disk(tmp_path, size=64 * MIB)}", "msix=off")
    vm = boot(spare_ports=1, append=SOON)
    name = vm.plug(server)
    vm.appears("/dev/nvme0n1")
    start_work(vm)
    fail(server)
    check_dead(vm)
    vm.check("dmesg -c > /dev/null")
    vm.unplug(name)
    assert vm.run(f"[ -e /sys/bus/pci/devices/{ADDRESS} ]")[0] != 0
    vm.plug(server)
    vm.appears(f"/sys/bus/pci/devices/{ADDRESS}/enable")
    vm.check(until(GIVEN_UP), timeout=120)
    vm.check("! [ -e /dev/nvme0n1 ]")
    vm.poweroff()
