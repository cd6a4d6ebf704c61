"""Guests with little and with much memory: DMA to what lies above 4 GiB as to what lies below."""

import pytest


@pytest.mark.parametrize("memory, mask, above", [("512M", 0x1fffffff, 0),
                                                 ("5G", 0x1ffffffff, 1 << 32)])
def test_dma(serve, boot, guest_program, memory, mask, above):
    program = guest_program("edu.c", "edu_uio.c", "edu_vfio.c")
    vm = boot(devices=[serve("edu", f"dma_mask={mask:#x}")], memory=memory,
              modules=["uio_pci_generic"], files={program: "/bin/edu"})
    vm.bind("0000:01:00.0", "uio_pci_generic")
    vm.check("echo 8 > /proc/sys/vm/nr_hugepages")
    for check in "dma", "dma-interrupt 20", f"dma-mask {mask.bit_length()}":
        output = vm.check(f"EDU_ABOVE={above:#x} edu uio 0000:01:00.0 {check}")
        assert int(output.split()[-1], 16) >= above
    vm.poweroff()
