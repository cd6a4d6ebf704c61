"""A guest that starts anew finds devices that do, whatever they were doing."""


def test_devices_start_anew(serve, boot, guest_program, tmp_path):
    program = guest_program("edu.c", "edu_uio.c", "edu_vfio.c")
    edu = serve("edu", "dma_mask=0xffffffff")
    serial = serve("serial", f"path={tmp_path}/line")
    vm = boot(devices=[edu, serial], modules=["uio_pci_generic"], files={program: "/bin/edu"})

    for boot_number in range(3):
        if boot_number:
            vm.reboot()
        vm.bind("0000:01:00.0", "uio_pci_generic")
        vm.check("echo 4 > /proc/sys/vm/nr_hugepages")
        for check in "fresh", "registers", "raise 100", "dma", "dma-interrupt 10", "leave-used":
            vm.check(f"edu uio 0000:01:00.0 {check}")
        tty = vm.tty("0000:02:00.0")
        vm.check(f"stty -F {tty} raw -echo && echo boot {boot_number} > {tty}")
        vm.check(f"cat {tty} > /dev/null &")  # it is open, and may interrupt, when the guest ends
    vm.poweroff()
    assert (tmp_path / "line").read_text() == "boot 0\nboot 1\nboot 2\n"
