"""`outboard check`: our own devices pass, and what a server does wrong is found."""

import json
import subprocess

import pytest

from devices import PROBE
from program import OUTBOARD, TOP

LIMIT = 300  # seconds for a whole run; it takes a few


def check(path, *options, status=0):
    """The results of a run by id, as JSON has them."""
    done = subprocess.run([OUTBOARD, "check", str(path), "--format=json", *options],
                          capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == status, done.stderr + done.stdout[-4000:]
    results = json.loads(done.stdout)["checks"]
    return {result["id"]: result for result in results}


def failed(results):
    return {id: r["detail"] for id, r in results.items() if r["verdict"] in ("fail", "not run")}


def entries():
    done = subprocess.run([OUTBOARD, "check", "--list", "--format=json"], capture_output=True,
                          text=True, check=True)
    return json.loads(done.stdout)["checks"]


def test_each_check_has_an_id_of_its_own_and_cites_the_text():
    checks = entries()
    assert len({c["id"] for c in checks}) == len(checks) > 600
    assert all(c["title"] and c["section"] for c in checks)


# ---- Our devices pass ---------------------------------------------------------------------------


@pytest.fixture
def device(request, serve, tmp_path):
    name = request.param
    if name == "gpio":
        subprocess.run(["cc", "-shared", "-fPIC", f"-I{TOP}/include", "-o", tmp_path / "gpio.so",
                        TOP / "examples/gpio/gpio.c"], check=True)
        return serve(str(tmp_path / "gpio.so"))
    if name == "nvme":
        with open(tmp_path / "disk", "wb") as disk:
            disk.truncate(16 << 20)
        return serve("nvme", f"file={tmp_path}/disk")
    if name == "probe":
        return serve(str(PROBE))
    if name.startswith("serial"):
        return serve("serial", f"path={tmp_path}/line", *name.split()[1:])
    return serve(name)


DEVICES = ["edu", "serial", "serial bus=platform", "nvme", "gpio", "probe"]


@pytest.mark.parametrize("device", DEVICES, indirect=True)
@pytest.mark.parametrize("options", [[], ["--destructive"], ["--destructive", "--one-connection"]],
                         ids=["careful", "destructive", "one-connection"])
def test_our_devices_pass(device, options):
    results = check(device.socket, *options)
    assert not failed(results)
    assert len(results) == len(entries())


@pytest.mark.parametrize("device", ["edu", "nvme", "serial bus=platform"], indirect=True)
@pytest.mark.parametrize("memory", ["mapped", "messages"])
def test_with_one_kind_of_memory(device, memory):
    results = check(device.socket, f"--memory={memory}", "--destructive")
    assert not failed(results)
    skipped = {id for id, r in results.items() if r["detail"].startswith("--memory=")}
    assert skipped and ("dma.map" in skipped) == (memory == "messages")
