"""Devices that come and go while the guest runs."""

import time
from pathlib import Path

import pytest

ADDRESS = "0000:01:00.0"


def holdings(server):
    """What a device's process holds: the number of its descriptors, and of mapped guest memory."""
    folder = Path(f"/proc/{server.pid}")
    mappings = (folder / "maps").read_text().splitlines()
    return len(list((folder / "fd").iterdir())), sum("memory-backend" in line for line in mappings)


def comes_back_to(before, server, seconds=10):
    """The process may still have to notice that its client has gone."""
    deadline = time.monotonic() + seconds
    while holdings(server) != before and time.monotonic() < deadline:
        time.sleep(0.01)
    return holdings(server) == before


def use_serial(vm):
    tty = vm.tty(ADDRESS)
    vm.check(f"stty -F {tty} raw -echo && echo hello > {tty}")


def use_edu(vm):
    vm.bind(ADDRESS, "uio_pci_generic")
    vm.check(f"edu uio {ADDRESS} fresh && edu uio {ADDRESS} raise 20 && edu uio {ADDRESS} dma")
    vm.check(f"edu uio {ADDRESS} leave-used")


@pytest.mark.parametrize("device, ids, use", [("serial", (0x1b36, 0x0002), use_serial),
                                              ("edu", (0x1234, 0x11e8), use_edu)])
def test_twenty_times(serve, boot, guest_program, tmp_path, device, ids, use):
    program = guest_program("edu.c", "edu_uio.c", "edu_vfio.c")
    server = serve(device, f"path={tmp_path}/line" if device == "serial" else "dma_mask=0xffffffff")
    vm = boot(spare_ports=1, modules=["uio_pci_generic"], files={program: "/bin/edu"})
    vm.check("echo 4 > /proc/sys/vm/nr_hugepages")
    before = holdings(server)
    for _ in range(20):
        name = vm.plug(server)
        vm.appears(f"/sys/bus/pci/devices/{ADDRESS}/enable")
        assert vm.pci(*ids) == [ADDRESS]
        descriptors, mappings = holdings(server)
        assert descriptors > before[0] and mappings > 0
        use(vm)
        vm.unplug(name)
        assert vm.pci(*ids) == []
        assert comes_back_to(before, server), f"{holdings(server)} and not {before}"
    if device == "serial":
        assert (tmp_path / "line").read_text() == "hello\n" * 20
    vm.poweroff()
