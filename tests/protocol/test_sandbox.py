"""What a worker that has been taken over can still do: nothing."""

import contextlib
import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from devices import ESCAPE
from program import OUTBOARD, links, serving
from raw import Refused

HERE = Path(__file__).resolve().parent
BAR0 = 0
TRY, RESULT, COUNT, KEEPER, OTHER, OTHER_FD, ADDRESS = 0, 4, 8, 12, 16, 20, 24

# In the order of tests/devices/escape.c.
REFUSED = """open_absolute open_relative open_root open_folder open_how open_new look_at change_folder make_node cut
    watch_path open_by_number read_memory_of open_by_memory_file block_by_descriptor block_by_memory kill_worker
    socket_inet socket_unix socket_netlink socket_vsock send_abstract shared_memory message_queue kill_other
    kill_thread pidfd limit_other clone_process map_code map_file_as_code make_code be_dumpable push_keys""".split()
DEADLY = """run_program run_file fork_process trace read_other steal_descriptor read_block steal_block
    mount_something unshare_something enter_namespace change_root open_handle another_ring change_ring load_bpf perf
    user_faults keys persona be_root numbers_of_x32 numbers_of_32_bits""".split()
RING_OPENS = """ring_open ring_open_how ring_keeper_memory ring_block_by_descriptor ring_block_by_memory
    ring_block_how""".split()
RING = RING_OPENS + "ring_socket ring_connect ring_send ring_splice ring_unlink ring_statx".split()
ALL = REFUSED + DEADLY + RING + ["ring_reads"]

# What this very test may not do either, or what is wrong in itself.
NEVER = {"run_program", "run_file", "socket_vsock", "push_keys", "numbers_of_x32", "open_handle", "mount_something",
         "enter_namespace", "load_bpf", "perf", "change_ring", "user_faults"}


def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def sandboxed(server):
    """Has it a filter of system calls that it did not get from us?"""
    return status(server.pid)["Seccomp_filters"] != status("self")["Seccomp_filters"]


def block_of(pid):
    """Where a worker has its block: the number of a descriptor, and an address."""
    name = "/memfd:outboard-block"
    fd, = [fd for fd in os.listdir(f"/proc/{pid}/fd") if os.readlink(f"/proc/{pid}/fd/{fd}").startswith(name)]
    with open(f"/proc/{pid}/maps") as maps:
        line, = [line for line in maps if name in line]
    return int(fd), int(line.split("-")[0], 16)


@pytest.fixture
def escape(serve, connect, tmp_path):
    """escape(...) is a served device that has been taken over, and a client of it. What it is to reach is told to it:
    its keeper, and the worker of another device of the same user, with a block of its own."""
    ends = []

    def start(*options, ring="restricted"):
        secret = tmp_path / "secret"
        secret.write_bytes(b"secret")
        name = f"outboard-escape-{os.getpid()}-{len(ends)}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ends.append(listener)
        listener.bind(f"\0{name}")
        server = serve(str(ESCAPE), f"secret={secret}", f"abstract={name}", f"ring={ring}",
                       options=["--verbose", *options], prefix=["env", "-C", tmp_path])
        client = connect(server)
        assert client.get32(BAR0, COUNT) == len(ALL)
        other = serve("edu", options=[option for option in options if option.startswith("--sandbox")])
        fd, address = block_of(other.pid)
        keeper = server.keeper if "--no-keeper" not in options else other.keeper
        for register, value in ((KEEPER, keeper), (OTHER, other.pid), (OTHER_FD, fd), (ADDRESS, address & 0xffffffff),
                                (ADDRESS + 4, address >> 32)):
            client.set32(BAR0, register, value)
        return server, client

    yield start
    for end in ends:
        end.close()


def attempt(client, name):
    client.set32(BAR0, TRY, ALL.index(name))
    return client.get32(BAR0, RESULT)


@pytest.fixture
def confined(escape):
    server, client = escape()
    if not sandboxed(server):
        pytest.skip("this build has no sandbox")
    return server, client


def test_what_is_refused(confined):
    server, client = confined
    for name in REFUSED:
        assert attempt(client, name) != 0, name
    for name in RING:
        assert attempt(client, name) == errno.EACCES, name
    assert attempt(client, "ring_reads") == 0
    assert "killed" not in server.log.read_text()
    assert "is none that this device has told of: refused" in server.log.read_text()


def test_what_kills(confined):
    server, client = confined
    for n, name in enumerate(DEADLY, 1):
        with contextlib.suppress(Refused):
            attempt(client, name)
            pytest.fail(f"{name} was not deadly: {server.log.read_text()[-1500:]}")
        assert server.log.read_text().count("killed by signal 31 (Bad system call)") == 3 * n, name


@pytest.mark.parametrize("way", [["--sandbox=off"], ["--sandbox=off", "--no-keeper"]])
def test_without_a_sandbox_it_gets_out(escape, way):
    """That the attempts are such that they can succeed."""
    server, client = escape(*way)
    assert "there is no sandbox around this device" in server.log.read_text()  # and it says so
    for name in REFUSED + [name for name in DEADLY if name != "numbers_of_32_bits"]:
        if name not in NEVER:
            assert attempt(client, name) == 0, name


def test_it_is_the_restrictions_that_refuse(escape):
    """Of a ring; nothing else is in force here, and there is something to connect and send to in none."""
    _, client = escape("--sandbox=off")
    assert {attempt(client, name) for name in RING} == {errno.EACCES}
    _, client = escape("--sandbox=off", ring="free")
    for name in [*RING_OPENS, "ring_socket", "ring_statx", "ring_unlink"]:
        assert attempt(client, name) == 0, name
    assert errno.EACCES not in {attempt(client, name) for name in ["ring_connect", "ring_send", "ring_splice"]}


def test_a_ring_without_restrictions(escape):
    """Finds nothing to open in the sandbox, either."""
    server, client = escape(ring="free")
    if not sandboxed(server):
        pytest.skip("this build has no sandbox")
    for name in RING_OPENS:
        assert attempt(client, name) == errno.ENOENT, name


def test_without_a_keeper(escape):
    server, client = escape("--no-keeper")
    if not sandboxed(server):
        pytest.skip("this build has no sandbox")
    for name in REFUSED + RING:
        assert attempt(client, name) != 0, name
    server.stop()
    assert not server.socket.exists()


def test_what_it_holds(confined):
    """No capabilities, no folder, no terminal; nothing that whoever started it had open by chance."""
    server, _ = confined
    s = status(server.pid)
    assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2"
    assert {int(s[key], 16) for key in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]} == {0}
    assert s["NSpid"].split()[-1] == "1"
    ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in ["user", "mnt", "net", "ipc", "pid"]}
    for name, link in ours.items():
        assert os.readlink(f"/proc/{server.pid}/ns/{name}") != link
    assert os.listdir(f"/proc/{server.pid}/root") == []
    for link in links(server.pid):
        assert re.match(r"/dev/null|anon_inode:|socket:|/memfd:|.*/log$", link), link


def test_what_was_open_by_chance(serve, tmp_path):
    chance = tmp_path / "chance"
    chance.touch()
    server = serve("edu", prefix=["sh", "-c", f'exec 9< {chance}; exec "$@"', "sh"])
    if sandboxed(server):
        assert str(chance) not in links(server.pid)


def system_calls(server):
    return re.search(r"sandbox: (\d+) system calls: (.*)", server.log.read_text())


@pytest.mark.parametrize("engine", ["uring", "threads"])
@pytest.mark.parametrize("options", [[], ["--no-keeper"]], ids=["kept", "alone"])
def test_how_many_system_calls(serve, tmp_path, engine, options):
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 1 << 20)
    server = serve("nvme", f"file={disk}", f"engine={engine}", options=["--verbose", *options])
    if not sandboxed(server):
        pytest.skip("this build has no sandbox")
    said = system_calls(server)
    assert int(said[1]) == len(said[2].split()) <= 40
    for task in os.listdir(f"/proc/{server.pid}/task"):  # threads, too
        assert status(f"{server.pid}/task/{task}")["Seccomp_filters"] == status(server.pid)["Seccomp_filters"]
    assert "clone" not in said[2].split() and ("io_uring_enter" in said[2]) == (engine == "uring")


def test_a_serial_port_has_no_ring(serve):
    server = serve("serial", options=["--verbose"])
    if not sandboxed(server):
        pytest.skip("this build has no sandbox")
    assert "io_uring_enter" not in system_calls(server)[2]


def test_option():
    result = subprocess.run([OUTBOARD, "serve", "edu", "--socket-path=/nowhere/socket", "--sandbox=perhaps"],
                            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2 and "--sandbox=perhaps: on or off" in result.stderr


# ---- Hosts that allow less, users that may less ------------------------------------------------------

ORDINARY = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--inh-caps=-all"]
NAMESPACES = ["user", "pid", "mnt", "net", "ipc"]
FORBID = "".join(f"echo 0 > /proc/sys/user/max_{name}_namespaces; " for name in NAMESPACES)


def possible(prefix, program=OUTBOARD):
    return subprocess.run([*prefix, program, "--version"], capture_output=True, check=False).returncode == 0


def test_an_ordinary_user(connect, tmp_path_factory):
    """Has as much of it as root; and its keeper learns as well what a dead worker wrote."""
    if not possible(ORDINARY):
        pytest.skip("this build is not for everybody to see")
    folder = tmp_path_factory.mktemp("ordinary")
    for path in [folder, *folder.parents]:
        if path.name.startswith(("pytest-", "popen-")):
            path.chmod(0o755)
    folder.chmod(0o777)
    with serving(folder) as start:
        (folder / "edu0").mkdir(mode=0o777)
        (folder / "edu0").chmod(0o777)
        server = start("edu", prefix=ORDINARY)
        if not sandboxed(server):
            pytest.skip("this build has no sandbox")
        assert "does not allow" not in server.log.read_text()
        ours = {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES}
        for name, link in ours.items():
            assert os.readlink(f"/proc/{server.pid}/ns/{name}") != link
        client = connect(server)
        for _ in range(5):
            os.kill(server.pid, signal.SIGKILL)
            assert client.get32(BAR0, 0) == 0x010000ed
        assert "is not known" not in server.log.read_text()


def test_no_namespaces(serve, connect):
    """The rest of it is there all the same, and one line says what is not."""
    inside = ["unshare", "--user", "--map-root-user", "sh", "-c", FORBID + 'exec "$@"', "sh"]
    if not possible(inside):
        pytest.skip("no namespaces here")
    server = serve("edu", prefix=inside)
    if not sandboxed(server):
        pytest.skip("this build has no sandbox")
    log = server.log.read_text()
    assert "workers have no PID namespace of their own: No space left on device" in log
    assert "this host does not allow all of the sandbox: pid-namespace" in log
    for name in ["user-namespace", "mount-namespace", "net-namespace", "ipc-namespace", "empty-root"]:
        assert f"{name} E" in log
    s = status(server.pid)
    assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2" and int(s["CapEff"], 16) == 0
    client = connect(server)
    os.kill(server.pid, signal.SIGKILL)
    assert client.get32(BAR0, 0) == 0x010000ed
    assert server.log.read_text().count("does not allow") == 1


def facts(control):
    result = subprocess.run([OUTBOARD, "status", control, "--json"], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)["devices"][0]["sandbox"]


@pytest.mark.parametrize("way", [[], ["--no-keeper"]], ids=["kept", "alone"])
def test_nothing_is_given_up_in_silence(serve, tmp_path, way):
    """Whatever is refused is in the log, and the rest is done."""
    if not sandboxed(serve("edu")):
        pytest.skip("this build has no sandbox")
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh"]
    if not possible(inside):
        pytest.skip("no namespaces here")
    refused = "close_range,capset,prctl:24,prctl:47,prctl:4"  # PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_SET_DUMPABLE
    control = [] if way else [f"--control-path={tmp_path / 'control'}"]
    server = serve("edu", options=way + control, prefix=[*inside, sys.executable, HERE / "refusing.py", refused])
    log = server.log.read_text()
    line, = [line for line in log.splitlines() if "this host does not allow all of the sandbox" in line]
    names = {"closed-descriptors", "no-capabilities", "no-terminal"} | ({"not-dumpable"} if way else set())
    for name in names:
        assert name + (" ENOENT" if name == "no-terminal" else " EBADFD") in line
    s = status(server.pid)
    assert s["NoNewPrivs"] == "1" and s["Seccomp"] == "2"
    assert os.listdir(f"/proc/{server.pid}/root") == []
    if not way:
        said = facts(control[0].split("=")[1])
        assert said["state"] == "part"
        assert set(said["refused"]) == names
        assert "seccomp" in said["in_force"] and not set(said["refused"]) & set(said["in_force"])


def test_status_tells_of_the_ring(serve, tmp_path):
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 1 << 20)
    if not sandboxed(serve("edu")):
        pytest.skip("this build has no sandbox")
    for n, (restricted, device) in enumerate([
            (True, ["nvme", f"file={disk}", "engine=uring"]), (False, ["edu"]),
            (True, [str(ESCAPE), f"secret={disk}"]), (False, [str(ESCAPE), f"secret={disk}", "ring=free"])]):
        serve(*device, options=[f"--control-path={tmp_path / str(n)}"])
        said = facts(tmp_path / str(n))
        assert ("ring-restricted" in said["in_force"]) == restricted and said["refused"] == []
