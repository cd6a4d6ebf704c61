"""The client library against served devices: each case is a run of the program library.c."""

import subprocess

import pytest

from devices import BUILD, PROBE
from raw import TIMEOUT

PROGRAM = BUILD / "tests/protocol/library"

CASES = ["negotiation", "adopt", "busy", "nobody_there", "timeout", "server_gone", "info", "access",
         "posted", "pipelined", "write_multi", "io_fds", "reset", "migration", "interrupts", "vectors",
         "dma_by_descriptor", "dma_by_messages", "process", "twin", "twin_process",
         "twin_serve", "twin_declined", "large", "mappings", "threads",
         "serial_driver", "rtc_driver", "rtc_migrates"]


def devices():
    """{case: device}, as the program says."""
    said = subprocess.run([PROGRAM], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    return {name: device for device, name in map(str.split, said.stdout.splitlines())}


@pytest.mark.parametrize("case", CASES)
def test_library(serve, tmp_path, case):
    device, *params = devices()[case].replace("TMP", str(tmp_path)).split(",")
    # A worker that is killed has to be missed.
    options = ["--no-keeper"] if case == "server_gone" else []
    server = serve(str(PROBE) if device == "probe" else device, *params, options=options)
    done = subprocess.run([PROGRAM, case, server.socket, str(server.pid)], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()
    if case == "server_gone":
        server.process.wait(TIMEOUT)


def test_every_case_is_run():
    assert sorted(devices()) == sorted(CASES)
