"""The teaching device driven by vfio-pci: a guest with an IOMMU, INTx and MSI."""

import pytest

pytestmark = pytest.mark.xdist_group("edu-vfio")  # they share a guest

FIRST, SECOND = "0000:01:00.0", "0000:02:00.0"


@pytest.fixture(scope="module")
def vm(module_serve, module_boot, guest_program):
    program = guest_program("edu.c", "edu_uio.c", "edu_vfio.c")
    vm = module_boot(devices=[module_serve("edu"), module_serve("edu")], cpus=2, iommu=True,
                     modules=["vfio-pci", "vfio_iommu_type1"], files={program: "/bin/edu"})
    vm.bind(FIRST, "vfio-pci")
    vm.bind(SECOND, "vfio-pci")
    return vm


CHECKS = ["registers", "factorial", "factorial-interrupt 50", "raise 1000", "unacknowledged 100",
          "dma", "dma-interrupt 50", "dma-refused", "reset 3",
          "dma-mask 28",  # what the device does not drive if not told otherwise
          "scattered 64", "remapped 20"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("way", ["vfio-intx", "vfio-msi"])
def test_driver(vm, way, check):
    vm.check(f"edu {way} {FIRST} {check}")


def test_two_devices_interrupt_two_cpus(vm):
    vm.check(f"edu vfio-intx {FIRST} raise 300 1 & first=$!\n"
             f"edu vfio-msi {SECOND} raise 300 0 && wait $first")
    vm.check(f"edu vfio-msi {FIRST} dma-interrupt 30 & first=$!\n"
             f"edu vfio-intx {SECOND} dma-interrupt 30 && wait $first")


def test_qemu_had_nothing_to_complain_about(vm):
    """An IOMMU makes it unmap ranges that were never mapped, and in which there is much."""
    assert "vfio_container_dma" not in (vm.folder / "qemu.log").read_text()
