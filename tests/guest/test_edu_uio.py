"""The teaching device driven by uio_pci_generic: no IOMMU, and INTx alone."""

import pytest

pytestmark = pytest.mark.xdist_group("edu-uio")  # they share a guest

EDU = "0000:01:00.0"


@pytest.fixture(scope="module")
def vm(module_serve, module_boot, guest_program):
    program = guest_program("edu.c", "edu_uio.c", "edu_vfio.c")
    # All of the guest's memory can be reached, and no more.
    vm = module_boot(devices=[module_serve("edu", "dma_mask=0x1fffffff")], memory="512M",
                     modules=["uio_pci_generic"], files={program: "/bin/edu"})
    vm.bind(EDU, "uio_pci_generic")
    vm.check("echo 8 > /proc/sys/vm/nr_hugepages")
    return vm


@pytest.mark.parametrize("check", [
    "registers", "factorial", "factorial-interrupt 50", "raise 1000", "unacknowledged 100",
    "dma", "dma-interrupt 50", "dma-mask 29", "dma-refused", "reset 3"])
def test_driver(vm, check):
    vm.check(f"edu uio {EDU} {check}")
