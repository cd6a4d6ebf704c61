"""`outboard check --client`: the mirror, and our client library in front of it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from program import OUTBOARD

CLIENTS = Path(OUTBOARD).parent / "tests/mirror"

# A sanitizer's finding must look like the crash that it is; status 1 says that a lie was noticed.
ENVIRONMENT = {**os.environ,
               "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":abort_on_error=1",
               "UBSAN_OPTIONS": os.environ.get("UBSAN_OPTIONS", "") + ":abort_on_error=1"}


def check(folder, command, *options, timeout=5000):
    """Runs the mirror; returns (exit status, {id: (verdict, detail)})."""
    argv = [OUTBOARD, "check", "--client", f"--socket-path={folder}/socket", "--format=json",
            f"--timeout={timeout}", *options, "--", *map(str, command)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          env=ENVIRONMENT)
    assert not (folder / "socket").exists()
    assert done.returncode in (0, 1), done.stderr
    results = json.loads(done.stdout)["checks"]
    return done.returncode, {x["id"]: (x["verdict"], x["detail"]) for x in results}


def everything():
    listing = subprocess.run([OUTBOARD, "check", "--client", "--list", "--format=json"],
                             capture_output=True, text=True, check=True)
    return {x["id"] for x in json.loads(listing.stdout)["checks"]}


GROUPS = sorted({x.split(".")[0] for x in everything()}) if Path(OUTBOARD).exists() else []

# What our client does not do, and the mirror therefore cannot spoil.
NOT_REACHED = {"dma.write-own-table"}


@pytest.mark.parametrize("group", GROUPS)
def test_our_client_survives(tmp_path, group):
    status, results = check(tmp_path, [CLIENTS / "ours", "{}", "500"], f"--only={group}")
    assert set(results) == {x for x in everything() if x.split(".")[0] == group}
    assert {x: r for x, r in results.items() if r[0] == "fail"} == {}
    skipped = {x for x, r in results.items() if r[0] == "skip"}
    assert skipped - {x for x in everything() if "io-fds" in x} == \
        NOT_REACHED & set(results)
    assert status == 0
