"""The serial port as the guest kernel's own console."""

import re


def test_kernel_console(serve, boot, tmp_path):
    log = tmp_path / "log"
    server = serve("serial", f"path={log}")
    vm = boot(devices=[server], console="ttyS1,115200", append="loglevel=6")
    vm.check("echo '<0>as loud as can be' > /dev/kmsg; echo init talks > /dev/console")
    vm.check("dmesg -n 8")
    vm.reboot()
    vm.check("dmesg -n 8")
    vm.poweroff()
    # Of what it said before it found the port, the kernel repeats what is loud enough.
    boot_log = (r"Linux version .*as loud as can be\r\ninit talks\r\n"
                r".*reboot: Restarting system\r\n.*Linux version .*reboot: Power down\r\n")
    assert re.search(boot_log, log.read_bytes().decode(), re.DOTALL), log.read_text()
