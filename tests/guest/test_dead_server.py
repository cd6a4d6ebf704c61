"""A device whose process dies under the guest is dead; the guest and its other devices are not."""

from line import Line


def test_killed(serve, boot, guest_program, tmp_path):
    program = guest_program("edu.c", "edu_uio.c", "edu_vfio.c")
    edu = serve("edu", "dma_mask=0xffffffff")
    serial = serve("serial", f"path=unix:{tmp_path}/line")
    vm = boot(devices=[edu, serial], modules=["uio_pci_generic"], files={program: "/bin/edu"})
    vm.bind("0000:01:00.0", "uio_pci_generic")
    vm.check("echo 4 > /proc/sys/vm/nr_hugepages; edu uio 0000:01:00.0 raise 10")

    # While nothing is under way: a connection that ends with a message unread aborts QEMU 11.1
    # itself (an assertion in error_setv).
    edu.kill()
    said = vm.run("edu uio 0000:01:00.0 registers", timeout=60)
    assert said[0] != 0 and "edu.c" in said[1], said
    assert vm.qmp("query-status")["status"] == "running"

    line = Line.unix(tmp_path / "line")
    tty = vm.tty("0000:02:00.0")
    vm.check(f"stty -F {tty} raw -echo && echo still here > {tty}")
    line.expect("still here\n")
    line.close()
    vm.poweroff()
