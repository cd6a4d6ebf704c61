"""The NVMe tools' commands, each in its effect on the file."""

import json
import os

import pytest

from nvme import MIB, complaints, disk, nvme_cli

pytestmark = pytest.mark.xdist_group("nvme-cli")  # they share a guest

BLOCK = 512
EIGHT = 8 * BLOCK

CC, CSTS = 0x14, 0x1c  # registers


class Disk:
    """A guest with one disk, and what is to be known of it."""

    def __init__(self, vm, image, server):
        self.vm, self.image, self.server = vm, image, server

    def json(self, command):
        return json.loads(self.vm.check(f"nvme {command} -o json"))

    def content(self, block, count=8):
        with open(self.image, "rb") as file:
            return os.pread(file.fileno(), count * BLOCK, block * BLOCK)

    def fill(self, block, count=8):
        data = os.urandom(count * BLOCK)
        with open(self.image, "r+b") as file:
            os.pwrite(file.fileno(), data, block * BLOCK)
        return data

    def smart(self):
        """The SMART log; the tools give its larger counters as text."""
        return {name: int(value) for name, value in self.json("smart-log /dev/nvme0").items()}

    def register(self, offset):
        """A register, past the guest's driver."""
        return int(self.vm.check(
            "devmem $((0x$(sed -n '1s/^0x0*\\([0-9a-f]*\\) .*/\\1/p' "
            f"/sys/class/nvme/nvme0/device/resource) + {offset}))"), 16)


@pytest.fixture(scope="module")
def nvme(module_serve, module_boot, tmp_path_factory):
    image = disk(tmp_path_factory.mktemp("disk"), size=64 * MIB)
    server = module_serve("nvme", f"file={image}", "serial=S3R1AL")
    # iomem=relaxed: to map the registers that the kernel's driver uses.
    vm = module_boot(devices=[server], cpus=2, files=nvme_cli(), append="iomem=relaxed")
    return Disk(vm, image, server)


def test_list(nvme):
    [device] = nvme.json("list")["Devices"]
    assert device["DevicePath"] == "/dev/nvme0n1"
    assert device["SerialNumber"] == "S3R1AL"
    assert device["PhysicalSize"] == device["UsedBytes"] == 64 * MIB
    assert (device["SectorSize"], device["MaximumLBA"]) == (BLOCK, 64 * MIB // BLOCK)


def test_id_ctrl(nvme):
    controller = nvme.json("id-ctrl /dev/nvme0")
    assert controller["sn"].strip() == "S3R1AL"
    assert controller["ver"] == 0x10400
    assert controller["vwc"] & 1
    # compare, dataset management, write zeroes, save and select, verify, copy
    assert controller["oncs"] & 0x19d == 0x19d
    assert controller["oacs"] & 0x100  # doorbell buffers


def test_id_ns(nvme):
    namespace = nvme.json("id-ns /dev/nvme0n1")
    assert namespace["nsze"] == namespace["ncap"] == 64 * MIB // BLOCK
    assert namespace["lbafs"][namespace["flbas"] & 15]["ds"] == 9
    assert int(namespace["nguid"], 16) and int(namespace["eui64"], 16)
    assert nvme.json("list-ns /dev/nvme0")["nsid_list"] == [{"nsid": 1}]
    assert namespace["eui64"] in nvme.vm.check("nvme ns-descs /dev/nvme0n1")


def test_registers(nvme):
    said = nvme.vm.check("nvme show-regs /dev/nvme0")
    registers = {name.strip(): int(value, 16)
                 for name, value in (line.split(":") for line in said.splitlines() if line)}
    assert registers["version"] == 0x10400
    assert registers["cc"] & 1 and registers["csts"] == 1
    assert registers["cc"] == nvme.register(CC)


def test_smart_log(nvme):
    before = nvme.smart()
    assert before["critical_warning"] == 0 and before["power_cycles"] >= 1
    nvme.vm.check("dd if=/dev/zero of=/dev/nvme0n1 bs=1M count=20 seek=20 oflag=direct; "
                  "dd if=/dev/nvme0n1 of=/dev/null bs=64k count=20 iflag=direct")
    after = nvme.smart()
    written = after["data_units_written"] - before["data_units_written"]
    assert abs(written * 1000 * BLOCK - 20 * MIB) < 2 * 1000 * BLOCK
    assert after["host_write_commands"] - before["host_write_commands"] >= 20
    assert after["host_read_commands"] - before["host_read_commands"] >= 20


def test_error_log(nvme):
    assert nvme.vm.run("nvme read /dev/nvme0n1 -s 0x1fffc -c 7 -z 4096 -d /tmp/x")[0] != 0
    entry = nvme.json("error-log /dev/nvme0 -e 1")["errors"][0]
    assert entry["error_count"] == nvme.smart()["num_err_log_entries"]
    assert entry["status_field"] & 0x7ff == 0x80  # LBA out of range
    assert (entry["sqid"] > 0, entry["lba"], entry["nsid"]) == (True, 0x1fffc, 1)


def test_firmware_and_effects_logs(nvme):
    assert "1.0" in nvme.vm.check("nvme fw-log /dev/nvme0")
    effects = nvme.vm.check("nvme effects-log /dev/nvme0")
    for command in "Identify", "Get Log Page", "Write Zeroes", "Compare", "Dataset Management":
        assert command in effects


@pytest.mark.parametrize("command", ["write-zeroes /dev/nvme0n1 -s {} -c 7",
                                     "write-zeroes /dev/nvme0n1 -s {} -c 7 -d",
                                     "dsm /dev/nvme0n1 -d -s {} -b 8"])
def test_takes_data_away(nvme, command):
    before = nvme.fill(1000, 24)
    nvme.vm.check("nvme " + command.format(1008))
    assert nvme.content(1000, 24) == before[:EIGHT] + bytes(EIGHT) + before[2 * EIGHT:]


def test_dsm_punches_holes(nvme):
    nvme.fill(2048, 2048)
    before = nvme.image.stat().st_blocks
    nvme.vm.check("nvme dsm /dev/nvme0n1 -d -s 2048 -b 2048")
    assert nvme.image.stat().st_blocks <= before - 2048


def test_write_and_read(nvme):
    nvme.vm.check("head -c 4096 /dev/urandom > /tmp/w; "
                  "nvme write /dev/nvme0n1 -s 3000 -c 7 -z 4096 -d /tmp/w --force-unit-access; "
                  "nvme read /dev/nvme0n1 -s 3000 -c 7 -z 4096 -d /tmp/r && cmp /tmp/w /tmp/r")
    assert nvme.content(3000) != bytes(EIGHT)


def test_compare(nvme):
    nvme.fill(4000)
    nvme.vm.check("dd if=/dev/nvme0n1 of=/tmp/c bs=512 skip=4000 count=8 iflag=direct; "
                  "nvme compare /dev/nvme0n1 -s 4000 -c 7 -z 4096 -d /tmp/c")
    errors = nvme.smart()["num_err_log_entries"]
    nvme.fill(4007, 1)
    status, said = nvme.vm.run("nvme compare /dev/nvme0n1 -s 4000 -c 7 -z 4096 -d /tmp/c")
    assert status != 0 and "Compare Failure" in said
    assert nvme.smart()["num_err_log_entries"] == errors + 1


def test_copy(nvme):
    data = nvme.fill(5000)
    nvme.vm.check("nvme copy /dev/nvme0n1 -d 6000 -s 5000 -b 7")
    assert nvme.content(6000) == data


def test_verify(nvme):
    nvme.vm.check("nvme verify /dev/nvme0n1 -s 0 -c 0xff")
    status, said = nvme.vm.run("nvme verify /dev/nvme0n1 -s 0x1ffff -c 1")
    assert status != 0 and "LBA Out of Range" in said


def test_flush(nvme):
    nvme.vm.check("nvme flush /dev/nvme0n1")


def test_features(nvme):
    assert "0x003f003f" in nvme.vm.check("nvme get-feature /dev/nvme0 -f 7")
    for value in 0, 1:  # the volatile write cache
        nvme.vm.check(f"nvme set-feature /dev/nvme0 -f 6 -v {value}")
        said = nvme.vm.check("nvme get-feature /dev/nvme0 -f 6")
        assert int(said.rsplit(":", 1)[1], 16) == value
    status, said = nvme.vm.run("nvme get-feature /dev/nvme0 -f 0x7e")
    assert status != 0 and "Invalid Field" in said


@pytest.mark.parametrize("reset", ["reset /dev/nvme0",
                                   "subsystem-reset /dev/nvme0 && nvme reset /dev/nvme0"])
def test_reset(nvme, reset):
    data = nvme.fill(7000)
    nvme.vm.check(f"nvme {reset}")
    nvme.vm.check("dd if=/dev/nvme0n1 of=/tmp/c bs=512 skip=7000 count=8 iflag=direct; "
                  "dd if=/tmp/c of=/dev/nvme0n1 bs=512 seek=7100 oflag=direct")
    assert nvme.content(7100) == data
    assert nvme.vm.check("cat /sys/class/nvme/nvme0/state") == "live\n"


def test_subsystem_reset_is_told(nvme):
    nvme.vm.check("nvme subsystem-reset /dev/nvme0")
    # Not enabled and not ready; and a subsystem reset occurred.
    assert (nvme.register(CC), nvme.register(CSTS)) == (0, 0x10)
    nvme.vm.check("nvme reset /dev/nvme0")
    assert nvme.register(CSTS) & 1


def test_nothing_was_complained_about(nvme):
    """All errors above were those of commands that were asked for; the kernel's own went well."""
    assert complaints(nvme.vm) == ""
