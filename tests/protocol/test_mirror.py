"""`outboard check --client`: the mirror, in front of our client library, and of a client with faults."""

import concurrent.futures
import fnmatch
import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from mirror_runs import EVERYTHING, GROUPS, check, failed, mirror
from program import OUTBOARD, TOP, child

CLIENTS = Path(OUTBOARD).parent / "tests/mirror"

# What only QEMU does: it has a guest that gives BARs addresses.
NOT_OURS = {"dma.write-own-table"}


@pytest.mark.parametrize("group", GROUPS)
def test_our_client_survives(tmp_path, group):
    results = check(tmp_path / "socket", [CLIENTS / "ours", "{}", "1000"], f"--only={group}")
    assert list(results) == [x for x in EVERYTHING if x.split(".")[0] == group]
    assert failed(results) == {}
    assert {x for x, (verdict, _) in results.items() if verdict == "skip"} == \
        NOT_OURS & set(results)


@pytest.mark.parametrize("only", ["*@connect,*@version", "*@dma-*", "dma", "descriptor"])
def test_our_client_survives_by_its_other_functions(tmp_path, only):
    results = check(tmp_path / "socket", [CLIENTS / "ours", "{}", "1000", "other"], f"--only={only}")
    assert results and failed(results) == {}


def test_our_client_uses_every_function():
    text = re.sub(r"/\*.*?\*/", "", (TOP / "tests/mirror/ours.c").read_text(), flags=re.DOTALL)
    functions = re.findall(r"\b(ob_\w+);", (TOP / "src/client/liboutboard.map").read_text())
    assert "ob_client_connect" in functions
    assert [f for f in functions if f"{f}(" not in text] == ["ob_client_move"]


# --- A client with faults ---

# What finds each of them, and nothing else does: globs of ids.
FAULTS = {
    "none": "",
    "id": "header.wrong-id@* header.next-id@* header.previous-id@*",
    "command": "header.wrong-command@* header.no-command@* header.unknown-command@*",
    "type": "header.type-* header.command-instead@version header.command-instead@info "
            "header.command-instead@read",
    "assert": "header.wrong-id@* header.next-id@* header.previous-id@* header.twice@* "
              "header.often@* header.error-afterwards@* header.stray@* pace.swapped",
    "size": "version.json-deepest version.json-long data.read-far-more",
    "allocate": "header.size-huge@* header.size-signed@* dma.command-size-*",
    "body": "version.empty version.short info.irq-short data.read-empty data.read-short "
            "data.read-no-data data.read-count-* data.write-empty data.mig-empty",
    "tail": "info.region-long data.read-longer data.read-much-longer data.write-data "
            "data.feature-longer",
    "error-zero": "header.error-zero@*",
    "error-sign": "header.error-signed@* header.error-negative@* header.error-minus-4@*",
    "error-bit": "header.error-zero@* header.error-4096@* header.error-signed@* "
                 "header.error-negative@* header.error-minus-4@*",
    "count": "data.read-more data.read-much-more data.read-count-* data.read-longer "
             "data.read-much-longer",
    "short-read": "data.read-less data.read-none",
    "echo": "info.region-other-index info.irq-other-index data.read-other-* data.write-other-*",
    "written": "data.write-less data.write-count-huge data.multi-none data.multi-more",
    "version": "version.major-* version.minor-*",
    "json": "version.no-nul version.inner-nul version.no-json version.json-cut version.json-utf8 "
            "version.json-deep",
    "json-type": "version.json-number version.json-array version.json-null version.caps-* "
                 "version.fds-string version.*-negative version.fds-zero version.xfer-object "
                 "version.xfer-zero version.maps-zero version.multi-number",
    "limits": "version.fds-one version.xfer-one version.maps-one version.multi-no",
    "twin": "version.twin-* descriptor.with-version",
    "regions": "info.device-regions-huge info.device-irqs-huge header.error@region-info "
               "header.error-zero@region-info header.error-negative@region-info",
    "irqs": "info.irq-count-huge",
    "argsz": "info.region-argsz-huge",
    "caps-bounds": "info.region-cap-in-head info.region-cap-beyond info.region-cap-far "
                   "info.region-cap-at-end info.region-cap-next-*",
    "caps-loop": "info.region-cap-loop info.region-cap-circle",
    "areas": "info.region-areas-more info.region-areas-huge info.region-areas-wrap",
    "area-bounds": "info.region-area-beyond",
    "map-file": "info.region-whole-beyond-file info.region-offset-beyond descriptor.empty "
                "descriptor.short descriptor.odd",
    "map-shrink": "descriptor.truncated",
    "memory-shrink": "descriptor.client-memory",
    "leak": "descriptor.two descriptor.17 descriptor.253 descriptor.unmappable descriptor.with-*",
    "dma-bounds": "dma.*-nowhere dma.*-straddle dma.*-wrap dma.*-unmapped dma.before-* "
                  "dma.many-wrong",
    "dma-end": "dma.*-straddle dma.read-count-*",
    "dma-wrap": "dma.*-wrap dma.read-count-max dma.read-count-nearly-max",
    "dma-rights": "dma.read-write-only dma.write-read-only",
    "dma-stale": "dma.*-unmapped",
    "dma-count": "dma.*-count-* dma.flood",
    "dma-data": "dma.write-count-more",
    "dma-posted": "dma.*-posted*",
    "dma-twice": "header.command-instead@* dma.*",
    "dma-unknown": "header.command-instead@* dma.command-[!bs]*",
    "grow": "dma.flood",
    "silence": "header.size-more@* header.command-instead@* pace.part-* pace.never@* pace.deaf@* "
               "pace.noise-short@*",
    "end": "pace.end-before@* pace.end-header@* pace.end-body@* pace.end@dma-map pace.end@reset",
    "sigpipe": "pace.end-after@*",
    "feature": "data.feature-other data.feature-argsz-huge",
    "mig-data": "data.mig-more data.mig-size-huge data.mig-size-less",
}

# Globs that reach too far.
BUT_NOT = {
    "dma-bounds": "dma.*-posted-nowhere",
    "dma-twice": "dma.*-posted* dma.command-size-* dma.write-own-table",
}

# Found or not, as the client's first message is sent before the connection ends, or not.
MAYBE = {"end": "pace.end@connect", "sigpipe": "pace.end@connect"}

# Most of the time, the clients wait for what never comes.
AT_ONCE = 24

# The faults that hang are found by the mirror's patience, which all others only have to stay below.
HANGS = {"silence", "end", "caps-loop"}


def expand(globs):
    found = {glob: set(fnmatch.filter(EVERYTHING, glob)) for glob in globs.split()}
    assert all(found.values()), found
    return set().union(*found.values())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each fault with everything; all are under way at once."""
    folder = tmp_path_factory.mktemp("faults")

    def run(fault):
        return check(folder / fault, [CLIENTS / "faulty", "{}", fault, "1500"],
                     timeout=4000 if fault in HANGS else 8000)

    pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    yield {fault: pool.submit(run, fault) for fault in FAULTS}
    pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("mirror faults")
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found_by_what_is_meant_for_it(runs, fault):
    found = failed(runs[fault].result())
    expected = expand(FAULTS[fault]) - expand(BUT_NOT.get(fault, ""))
    assert set(found) - expand(MAYBE.get(fault, "")) == expected, found


def test_every_fault_is_tested():
    listing = subprocess.run([CLIENTS / "faulty", "--list"], capture_output=True, text=True,
                             check=True)
    assert [line.split()[0] for line in listing.stdout.splitlines()] == list(FAULTS)


# --- The command ---

def test_a_client_that_fails_by_itself_is_not_checked(tmp_path):
    done = subprocess.run(mirror(tmp_path / "socket", "--", "false"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "the client did not connect" in done.stderr


def test_no_such_client(tmp_path):
    done = subprocess.run(mirror(tmp_path / "socket", "--", tmp_path / "none"), capture_output=True,
                          text=True)
    assert done.returncode == 1
    assert "none: No such file" in done.stderr
    assert not (tmp_path / "socket").exists()


def test_the_client_finds_the_socket_in_its_words_and_its_environment(tmp_path):
    script = f'[ "$SOCKET" = "$1" ] && exec {CLIENTS}/ours "$SOCKET" 500'
    results = check(tmp_path / "socket", ["sh", "-c", script, "sh", "{}"],
                    "--only=version.major-1,version.no-data")
    assert results["version.no-data"] == \
        ("pass", "survived: went on, and ended with status 0")
    assert results["version.major-1"][1].startswith("survived: gave up, and ended with status 1")


def test_a_crash_behind_a_shell(tmp_path):
    script = f"{CLIENTS}/ours $SOCKET 500 || sh -c 'kill -SEGV $$'; exit $?"
    results = check(tmp_path / "socket", ["sh", "-c", script], "--only=version.major-1")
    assert results["version.major-1"][0] == "fail"
    assert results["version.major-1"][1].startswith("crashed: ended by SIGSEGV")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly(tmp_path, end):
    """While it waits for a client, and leaves nothing behind."""
    process = child(mirror(tmp_path / "socket"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True)
    said = process.stderr.readline()
    assert "waiting for a client: a device that behaves" in said
    process.send_signal(end)
    assert process.wait(20) == 1
    assert not (tmp_path / "socket").exists()


def test_without_a_command(tmp_path):
    """A client that comes by itself, whenever the mirror waits for one."""
    socket = tmp_path / "socket"
    argv = mirror(socket, "--only=version.major-1,version.no-data", "--timeout=3000", "--format=json")
    process = child(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(3):
        assert "waiting for a client" in process.stderr.readline()
        subprocess.run([CLIENTS / "ours", socket, "500"], stderr=subprocess.DEVNULL, check=False)
    out, _ = process.communicate(timeout=60)
    assert [x["verdict"] for x in json.loads(out)["checks"]] == ["pass", "pass"]
    assert process.returncode == 0


def test_docs_say_what_clients_did_with_each():
    text = (TOP / "docs/clients.md").read_text()
    assert [x for x in EVERYTHING if f"| `{x}` |" not in text] == []
