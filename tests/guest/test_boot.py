"""The test guest itself, without a device of ours."""


def test_boots_runs_commands_and_powers_off(boot):
    vm = boot(modules=["uio_pci_generic"])
    assert "Linux" in vm.check("uname -a")
    assert vm.run("echo one; echo two >&2; false") == (1, "one\ntwo\n")
    assert "uio_pci_generic" in vm.check("lsmod")
    assert vm.pci(0x8086, 0x29c0) == ["0000:00:00.0"]
    assert vm.qmp("query-status")["status"] == "running"
    vm.poweroff()


def test_reboots(boot):
    vm = boot()
    vm.check("touch /tmp/before")
    vm.reboot()
    assert vm.run("test -e /tmp/before")[0] == 1


def test_gives_the_guest_an_iommu(boot):
    vm = boot(iommu=True, modules=["vfio-pci", "vfio_iommu_type1"])
    assert vm.check("ls /sys/kernel/iommu_groups").split()
    assert vm.check("ls /dev/vfio") == "vfio\n"
