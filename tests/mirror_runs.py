"""`outboard check --client` as a child of a test: what a client did with each misbehaviour."""

import json
import os
import subprocess
from pathlib import Path

from program import OUTBOARD

# A sanitizer's finding must look like the crash that it is; status 1 says that a lie was noticed.
ENVIRONMENT = {**os.environ,
               "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":abort_on_error=1",
               "UBSAN_OPTIONS": os.environ.get("UBSAN_OPTIONS", "") + ":abort_on_error=1"}


def mirror(socket, *options):
    return [OUTBOARD, "check", "--client", f"--socket-path={socket}", *options]


def check(socket, command, *options, timeout=5000):
    """Runs the mirror; returns {id: (verdict, detail)}."""
    argv = mirror(socket, "--format=json", f"--timeout={timeout}", *options, "--", *command)
    done = subprocess.run(list(map(str, argv)), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, env=ENVIRONMENT)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    assert not Path(socket).exists()
    results = {x["id"]: (x["verdict"], x["detail"]) for x in json.loads(done.stdout)["checks"]}
    assert done.returncode == any(verdict == "fail" for verdict, _ in results.values())
    return results


def everything():
    listing = subprocess.run([OUTBOARD, "check", "--client", "--list", "--format=json"],
                             capture_output=True, text=True, check=True)
    return [x["id"] for x in json.loads(listing.stdout)["checks"]]


EVERYTHING = everything() if Path(OUTBOARD).exists() else []
GROUPS = sorted({x.split(".")[0] for x in EVERYTHING})


def failed(results):
    return {x: detail for x, (verdict, detail) in results.items() if verdict == "fail"}
