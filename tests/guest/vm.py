"""A Linux guest under QEMU, driven from a test.

    def test_it(serve, boot):
        vm = boot(devices=[serve("edu")])
        status, output = vm.run("cat /proc/interrupts")

The guest is busybox in memory; its shell is on QEMU's own serial port (ttyS0), so that a device
under test is never needed to find out what went wrong. Nothing outlives the test.
"""

import contextlib
import functools
import itertools
import json
import os
import shutil
import socket
import subprocess
import tempfile
import warnings
from pathlib import Path

from console import Console, Monitor
from program import TOP, child, tail

DEPS = Path(os.environ.get("OUTBOARD_DEPS") or TOP / ".deps")
INIT = Path(__file__).parent / "init"


class GuestError(AssertionError):
    pass


def kernel_image(kernel="cloud"):
    return DEPS / f"kernel-{kernel}/vmlinuz"


def initramfs(path, kernel="cloud", modules=(), files=None, init=INIT):
    """Makes a guest's user space; returns its path."""
    argv = [TOP / "tools/guest-image", f"--kernel={kernel}", f"--init={init}", path]
    argv += [f"--module={module}" for module in modules]
    argv += [f"--file={host}:{guest}" for host, guest in (files or {}).items()]
    subprocess.run(argv, check=True)
    return path


def command_line(*words):
    """The kernel's: what all guests need, and more words."""
    # no_timer_check: on a busy machine the timer's interrupts come too late for the kernel's test
    # of them, and it panics.
    line = " ".join(filter(None, ["quiet mitigations=off no_timer_check", *words]))
    # The boot loader would cut it off or hang, without a word.
    assert len(line) < 2048, "the kernel's command line is too long"
    return line


def qemu():
    """tools/setup fetches one only if PATH has none that will do."""
    path = shutil.which("qemu-system-x86_64", path=f"{DEPS / 'bin'}:{os.environ['PATH']}")
    assert path, "no qemu-system-x86_64: run tools/setup"
    return path


@functools.lru_cache(maxsize=None)
def accelerator():
    """TCG, unless OUTBOARD_ACCEL=kvm: and then KVM only if a guest really boots with it, since
    there are machines where /dev/kvm opens and guests hang."""
    if os.environ.get("OUTBOARD_ACCEL", "tcg") == "tcg":
        return "tcg"
    with tempfile.TemporaryDirectory() as folder:
        vm = None
        try:
            vm = VM(Path(folder), accel="kvm")
            vm.wait_ready(timeout=10)
            return "kvm"
        except AssertionError as error:
            warnings.warn(f"KVM does not work here, using TCG: {error}")
            return "tcg"
        finally:
            if vm:
                vm.stop()


class VM:
    """A guest that is starting; wait_ready() returns when its shell is there.

    devices      served devices (program.Server), or pairs of one and a dict of further
                 properties for QEMU's -device; each sits behind a root port of its own
    spare_ports  the number of empty root ports, for plug()
    modules      kernel modules to load, in tools/guest-image's form
    files        {host path: guest path}
    iommu        gives the machine an IOMMU and has the guest use it: vfio-pci needs one, since no
                 Debian kernel has vfio's no-IOMMU mode
    console      the kernel's own; one of its serial ports can be that, and no more
    append, args more for the kernel's and for QEMU's command line
    shared       False: QEMU keeps the guest's memory to itself, and devices reach it by messages alone
    firmware     QEMU arguments for a guest that its firmware boots from one of its disks: QEMU then
                 gets no kernel, and what concerns kernel and initramfs is for whoever made the disk
    """

    def __init__(self, folder, *, devices=(), spare_ports=0, memory="512M", cpus=1,
                 kernel="cloud", modules=(), files=None, init=INIT, iommu=False,
                 console="ttyS0", append="", args=(), shared=True, firmware=None, accel=None):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ports = [f"port{n}" for n in range(len(devices) + spare_ports)]
        self.free_ports = self.ports[len(devices):]
        self.numbers = itertools.count(1)

        serial, serial_end = socket.socketpair()
        monitor, monitor_end = socket.socketpair()
        argv = [qemu(), "-no-user-config", "-nodefaults", "-display", "none",
                "-machine", "q35,memory-backend=ram" if shared else "q35",
                "-accel", accel or accelerator(), "-m", memory,
                "-smp", str(cpus),
                "-chardev", f"socket,id=console,fd={serial_end.fileno()}",
                "-device", "isa-serial,chardev=console",
                "-chardev", f"socket,id=monitor,fd={monitor_end.fileno()}",
                "-mon", "chardev=monitor,mode=control"]
        if shared:
            argv += ["-object", f"memory-backend-memfd,id=ram,size={memory},share=on"]
        if firmware is None:
            image = initramfs(folder / "initramfs.gz", kernel, modules, files, init)
            words = command_line(f"console={console}", "intel_iommu=on" if iommu else "", append)
            argv += ["-kernel", kernel_image(kernel), "-initrd", image, "-append", words]
        else:
            argv += firmware
        if iommu:
            argv += ["-device", "intel-iommu,intremap=on,caching-mode=on"]
        for number, port in enumerate(self.ports):
            argv += ["-device", f"pcie-root-port,id={port},chassis={number + 1}"]
        for number, device in enumerate(devices):
            server, properties = device if isinstance(device, tuple) else (device, {})
            properties = {"id": f"dev{number}", "bus": self.ports[number], **properties}
            argv += ["-device", json.dumps(self._device(server, properties))]
        argv += args

        self.console = Console(serial, folder / "console.log")
        with open(folder / "qemu.log", "wb") as log:
            log.write((" ".join(map(str, argv)) + "\n").encode())
            log.flush()
            self.process = child(argv, pass_fds=[serial_end.fileno(), monitor_end.fileno()],
                                 stdout=log, stderr=log)
        serial_end.close()
        monitor_end.close()
        try:
            self.qmp = Monitor(monitor)
        except (AssertionError, OSError):
            self.process.wait(timeout=10)
            raise self.error("QEMU did not start") from None

    @staticmethod
    def _device(server, properties):
        return {"driver": "vfio-user-pci",
                "socket": {"type": "unix", "path": str(server.socket)}, **properties}

    def error(self, what):
        status = self.process.poll()
        return GuestError(
            f"{what}\n--- QEMU ({'running' if status is None else f'exit {status}'})\n"
            f"{tail(self.folder / 'qemu.log', 10)}\n--- console\n"
            f"{tail(self.folder / 'console.log')}\n---")

    # --- the guest ---

    def wait_ready(self, timeout=60):
        """Waits for the guest's shell, after the start or a reboot."""
        if not self.console.expect("guest: ready\n", timeout):
            raise self.error(f"the guest was not up within {timeout} s")

    def run(self, command, timeout=30):
        """Runs shell commands in the guest; returns (exit status, output, both streams).

        They all run in one shell: variables and the folder stay, and "exit" would end it.
        """
        # The guest's terminal takes no longer line than 4095 bytes.
        assert max(map(len, command.split("\n"))) < 4000, "too long a line for the guest's shell"
        number = next(self.numbers)
        self.console.send(f"echo '@{number}<'\n{{\n{command}\n}} < /dev/null\n"
                          f"printf '\\n@{number}>%d\\n' $?\n")
        match = self.console.expect(rf"@{number}<\n(.*)\n@{number}>(\d+)\n", timeout)
        if not match:
            raise self.error(f"the guest did not finish within {timeout} s: {command}")
        return int(match[2]), match[1]

    def check(self, command, timeout=30):
        """Runs shell commands that must succeed; returns their output."""
        status, output = self.run(command, timeout)
        if status:
            raise self.error(f"exit status {status} from {command}\n{output}")
        return output

    def pci(self, vendor, device):
        """The addresses ("0000:01:00.0") of the guest's PCI functions with these ids, in order."""
        listing = self.check("cd /sys/bus/pci/devices && for d in *; do "
                             "echo $d $(cat $d/vendor $d/device); done; cd /")
        rows = [line.split() for line in listing.splitlines()]
        return [row[0] for row in rows if [int(x, 16) for x in row[1:]] == [vendor, device]]

    def bind(self, address, driver):
        """Gives a PCI function to a driver."""
        device = f"/sys/bus/pci/devices/{address}"
        self.check(f"! [ -e {device}/driver ] || echo {address} > {device}/driver/unbind\n"
                   f"echo {driver} > {device}/driver_override\n"
                   f"echo {address} > /sys/bus/pci/drivers_probe\n"
                   f"[ -e {device}/driver ]")

    def appears(self, path, seconds=10):
        """Waits until the guest has that file."""
        self.check(f"n=0; until [ -e {path} ]; do usleep 10000; n=$((n + 1))\n"
                   f"[ $n -lt {seconds * 100} ] || break; done; [ -e {path} ]", timeout=60)

    def tty(self, address):
        """The terminal of a serial port: "/dev/ttyS1"."""
        return "/dev/" + self.check(f"ls /sys/bus/pci/devices/{address}/tty").strip()

    def interrupts(self, address):
        """How often the INTx of a PCI function came, on all CPUs."""
        irq = self.check(f"cat /sys/bus/pci/devices/{address}/irq").strip()
        words = self.check(f"grep '^ *{irq}:' /proc/interrupts").split()[1:]
        return sum(int(word) for word in itertools.takewhile(str.isdigit, words))

    def reboot(self, timeout=60):
        self.console.send("reboot -f\n")
        self.wait_ready(timeout)

    def poweroff(self, timeout=30):
        """Powers the guest off; QEMU has to end by itself, and well."""
        self.console.send("poweroff -f\n")
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise self.error(f"the guest did not power off within {timeout} s") from None
        if status:
            raise self.error("QEMU failed")

    # --- the machine ---

    def plug(self, server, **properties):
        """Hot-plugs a served device into a spare root port; returns its id."""
        port = self.free_ports.pop(0)
        properties = {"id": f"dev{port.removeprefix('port')}", "bus": port, **properties}
        self.qmp("device_add", **self._device(server, properties))
        return properties["id"]

    def unplug(self, device, timeout=30):
        """Asks the guest to give a hot-plugged device up, and waits until it is gone.

        Not for a device with MSI-X: QEMU 11.1 itself aborts on that, whatever device and guest do. It
        takes its own region for the pending bits out of the BAR's when it finalizes the device, and
        at that time the BAR's is gone (vfio_user_msix_teardown, memory_region_del_subregion). MSI and
        INTx are fine.
        """
        self.qmp("device_del", id=device)
        self.qmp.wait("DEVICE_DELETED", device=device, timeout=timeout)
        self.free_ports.insert(0, f"port{device.removeprefix('dev')}")

    def stop(self):
        """Ends QEMU at once, whatever state the guest is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.console.close()
        if hasattr(self, "qmp"):
            self.qmp.close()


@contextlib.contextmanager
def booting(folder):
    """Gives a function that starts guests and waits for their shells; they end with the block."""
    machines = []

    def start(timeout=60, **options):
        machines.append(VM(folder / f"vm{len(machines)}", **options))
        machines[-1].wait_ready(timeout)
        return machines[-1]

    try:
        yield start
    finally:
        for machine in machines:
            machine.stop()
