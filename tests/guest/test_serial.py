"""The serial port: the guest's own driver at one end, a person or a program at the other."""

import os
import re
import time
from typing import NamedTuple

import pytest

from line import Line

pytestmark = pytest.mark.xdist_group("serial")  # they share a guest


class Port:
    def __init__(self, vm, address, connect):
        self.vm = vm
        self.address = address
        self.tty = vm.tty(address)
        self.number = self.tty.removeprefix("/dev/ttyS")
        self.connect = connect

    def status(self):
        """What the guest's driver says: its counters, and the modem lines that are on."""
        return self.vm.check(f"grep ^{self.number}: /proc/tty/driver/serial").strip()

    def modem(self):
        return set(self.status().split()[-1].split("|"))

    def hang_up(self, line):
        """Until the port has noticed, it would turn the next one away."""
        line.close()
        deadline = time.monotonic() + 20
        while self.modem() & {"CD", "DSR"}:
            assert time.monotonic() < deadline, "the guest does not see that the line is dead"
            time.sleep(0.01)


@pytest.fixture(scope="module")
def ports(module_serve, module_boot, guest_program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    (folder / "passwd").write_text("root::0:0:root:/:/bin/sh\n")
    (folder / "random").write_bytes(os.urandom(4 * MUCH))
    pty = module_serve("serial")
    unix = module_serve("serial", f"path=unix:{folder}/line")
    vm = module_boot(devices=[pty, unix], files={folder / "passwd": "/etc/passwd",
                                                 folder / "random": "/random",
                                                 guest_program("sendbreak.c"): "/bin/sendbreak"})
    ports = {"pty": Port(vm, "0000:01:00.0", lambda: Line.pty(pty)),
             "unix": Port(vm, "0000:02:00.0", lambda: Line.unix(folder / "line"))}
    for port in ports.values():
        port.random = (folder / "random").read_bytes()
    return ports


@pytest.fixture(params=["pty", "unix"])
def port(ports, request):
    return ports[request.param]


@pytest.fixture
def line(port):
    line = port.connect()
    yield line
    port.hang_up(line)


def test_a_person_logs_in(port, line):
    """getty, login and a shell with job control, as on any terminal."""
    port.vm.check(f"setsid getty -L 115200 {port.tty} vt100 > /dev/null 2>&1 &")
    line.expect("login: ")
    line.send("root\r")
    line.expect("# ")
    line.send("echo I am $USER on $(tty)\r")
    line.expect(f"\r\nI am root on {port.tty}\r\n.*# ")
    line.send("echo wrang\x7f\x7f\x7fong\r")  # the guest's terminal edits lines
    line.expect("\r\nwrong\r\n.*# ")
    line.send("sh -c 'echo asleep; exec sleep 1000'\r")
    line.expect("\r\nasleep\r\n")
    line.send("\x03")
    line.expect(r"\^C.*# ")
    line.send("seq 1 5000\r")
    line.expect("seq 1 5000\r\n")
    text = "".join(f"{n}\r\n" for n in range(1, 5001)).encode()
    assert line.exchange(b"", len(text)) == text
    line.expect("# ")
    line.send("exit\r")
    line.expect("exit\r\n")


class Counts(NamedTuple):
    """Of the guest's driver, and of its kernel."""

    sent: int
    received: int
    lost: int  # overruns
    breaks: int
    interrupts: int


def counts(port):
    found = {name: int(n) for name, n in re.findall(r"\b([a-z]+):(\d+)\b", port.status())}
    return Counts(found["tx"], found["rx"], found.get("oe", 0), found.get("brk", 0),
                  port.vm.interrupts(port.address))


# Each byte is an exchange of messages for the guest to send, and two to receive: some 60 us each
# under TCG, so what can be sent in a test is limited.
SOME = 16384
MUCH = 65536


def sends(port, count):
    """Starts a program in the guest that sends."""
    port.vm.check(f"stty -F {port.tty} raw -echo; head -c {count} /random > {port.tty} &")


def receives(port, count):
    """Starts a program in the guest that receives; it has the port open when this returns."""
    port.vm.check(f"stty -F {port.tty} raw -echo; exec 5< {port.tty}\n"
                  f"head -c {count} <&5 > /tmp/got & exec 5<&-")


def check_received(port, count):
    port.vm.check(f"wait; head -c {count} /random | cmp - /tmp/got", timeout=300)


def test_sends(port, line):
    before = counts(port)
    sends(port, SOME)
    assert line.exchange(b"", SOME) == port.random[:SOME]
    port.vm.check("wait")
    after = counts(port)
    assert after.sent - before.sent == SOME
    assert after.interrupts > before.interrupts


def test_receives(port, line):
    before = counts(port)
    receives(port, SOME)
    line.exchange(port.random[:SOME], 0)
    check_received(port, SOME)
    after = counts(port)
    assert (after.received - before.received, after.lost - before.lost) == (SOME, 0)
    assert after.interrupts > before.interrupts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sends_and_receives_much_at_once(ports):
    port = ports["unix"]
    line = port.connect()
    before = counts(port)
    receives(port, MUCH)
    sends(port, 4 * MUCH)
    assert line.exchange(port.random[:MUCH], 4 * MUCH, timeout=300) == port.random[:4 * MUCH]
    check_received(port, MUCH)
    port.hang_up(line)
    after = counts(port)
    assert after.sent - before.sent == 4 * MUCH
    assert (after.received - before.received, after.lost - before.lost) == (MUCH, 0)
    assert after.interrupts > before.interrupts
    assert port.vm.qmp("query-status")["status"] == "running"


def test_nobody_is_there(ports):
    """The guest sees whether its line leads to somebody, and does not wait for nobody."""
    for port in ports.values():
        vm, tty = port.vm, port.tty
        vm.check(f"stty -F {tty} raw -echo clocal; exec 6<> {tty}")
        assert not port.modem() & {"CD", "DSR"} and {"CTS", "RTS", "DTR"} <= port.modem()
        before = counts(port).sent
        vm.check("head -c 5000 /random >&6")  # it is lost, as on any cable that ends nowhere
        line = port.connect()
        assert {"CD", "DSR", "CTS"} <= port.modem()
        vm.check("echo here >&6")
        line.expect("here\n")
        assert counts(port).sent - before == 5005
        port.hang_up(line)
        vm.check("exec 6>&-")
        assert not port.modem() & {"RTS", "DTR"}


def test_a_hang_up_ends_the_session(port):
    """Without CLOCAL the guest's terminal hangs up when the carrier goes, and its programs end."""
    vm, tty = port.vm, port.tty
    line = port.connect()
    vm.check(f"stty -F {tty} sane -clocal; setsid -c sh -c 'trap \"echo > /tmp/hup; exit\" HUP\n"
             f"echo waiting; sleep 1000 & wait' < {tty} > {tty} 2>&1 &")
    line.expect("waiting")
    port.hang_up(line)
    vm.appears("/tmp/hup")
    vm.check("rm /tmp/hup; wait")
    line = port.connect()
    sends(port, 100)
    assert line.exchange(b"", 100) == port.random[:100]
    port.hang_up(line)


def test_a_break_is_harmless(port, line):
    """It goes nowhere, and what is sent after it arrives."""
    port.vm.check(f"stty -F {port.tty} raw -echo; sendbreak {port.tty}")
    sends(port, 100)
    assert line.exchange(b"", 100) == port.random[:100]
    assert counts(port).breaks == 0
