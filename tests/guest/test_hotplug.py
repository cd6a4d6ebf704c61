"""Devices that come and go while the guest runs."""

import time
from pathlib import Path

import pytest

from nvme import FIO, MIB, disk, fio_command

ADDRESS = "0000:01:00.0"


def holdings(server):
    """What a device's processes hold: the number of their descriptors, and of mapped guest memory."""
    files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (server.pid, server.keeper))
    mappings = Path(f"/proc/{server.pid}/maps").read_text().splitlines()
    return files, sum("memory-backend" in line for line in mappings)


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


def resident(server):
    """Bytes of memory that the worker shares with nobody, or with the keeper alone (the block). Not the program's
    own pages: its share of those grows when others that run the same program end."""
    rollup = Path(f"/proc/{server.pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines()
               if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) * 1024


def keeps_what_is_freed(server):
    """AddressSanitizer does, so that it finds who uses it."""
    return "libasan" in Path(f"/proc/{server.pid}/maps").read_text()


def tasks_and_files(process):
    folder = Path(f"/proc/{process.pid}")
    return len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))


def keep_busy(vm, name, command):
    """Repeats a command in the guest until /tmp/stop is there; /tmp/NAME-failed if it fails."""
    vm.check(f"(until [ -e /tmp/stop ]; do {command} || touch /tmp/{name}-failed; done) > /tmp/{name} 2>&1 &")


WRITE = "dd if=/dev/zero of=/proc/self/fd/3 bs=128k seek=8 count=100 oflag=direct conv=notrunc"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rounds, shared", [
    (10, True), (10, False), pytest.param(100, True, marks=pytest.mark.slow)],
    ids=["ten", "ten-by-messages", "hundred"])
def test_disk_under_io(serve, boot, tmp_path, rounds, shared):
    """A disk comes, is written to, and goes in the middle of that, next to one that stays. Neither the
    disk's process nor QEMU is left with anything of it."""
    image, other = disk(tmp_path, size=64 * MIB), disk(tmp_path, "other", 64 * MIB)
    server, stays = serve("nvme", f"file={image}", "msix=off"), serve("nvme", f"file={other}")
    vm = boot(devices=[stays], spare_ports=1, shared=shared, cpus=2, files=FIO)
    keep_busy(vm, "stays", fio_command(rw="randwrite", bs="64k", size="4m", iodepth=4, verify="crc32c",
                                       verify_fatal=1))
    before, worker, used = holdings(server), server.pid, []
    for n in range(rounds):
        name = vm.plug(server)
        vm.appears("/dev/nvme1n1")
        assert holdings(server)[0] > before[0]
        vm.check(f"echo round {n} > /tmp/round && dd if=/tmp/round of=/dev/nvme1n1 bs=512 conv=sync seek={n} "
                 "oflag=direct")
        # By a descriptor: dd with the disk's name would make a file of that name when it has gone.
        vm.check(f"(while {WRITE}; do :; done) 3<> /dev/nvme1n1 > /dev/null 2>&1 &\nn=0; until "
                 "set -- $(cat /sys/block/nvme1n1/stat); [ $5 -gt 20 ] || [ $n -gt 500 ]; do usleep 10000; "
                 "n=$((n + 1)); done; [ $n -lt 500 ]")
        vm.unplug(name, timeout=60)
        assert comes_back_to(before, server), f"{holdings(server)} and not {before}"
        used.append((resident(server), *tasks_and_files(vm.process)))
    sanitized = keeps_what_is_freed(server)
    vm.check("touch /tmp/stop; wait; cat /tmp/stays; ! [ -e /tmp/stays-failed ]", timeout=60)
    vm.poweroff()
    text = image.read_bytes()[:512 * rounds]
    assert [text[at:at + 512].rstrip(b"\0\n").decode() for at in range(0, len(text), 512)] == [
        f"round {n}" for n in range(rounds)]
    assert server.pid == worker, server.log.read_text()
    # The first rounds fill caches; after that nothing may grow. (QEMU's own memory goes up and down.)
    late = used[rounds // 3:]
    if not sanitized:
        assert late[-1][0] <= late[0][0] + (64 << 10)
    assert all(row[1:] == late[0][1:] for row in late), late
