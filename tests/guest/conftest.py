import subprocess
from pathlib import Path

import pytest

from program import serving
from vm import booting


@pytest.fixture(scope="session")
def guest_program(tmp_path_factory):
    """guest_program("name.c", ...) compiles files of this folder to one program, static and named
    after the first one, for boot(files=...)."""

    def build(*sources):
        program = tmp_path_factory.mktemp("guest") / Path(sources[0]).stem
        subprocess.run(["gcc", "-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-static",
                        "-o", program, *sources], check=True, cwd=Path(__file__).parent)
        return program

    return build


# It asks for serve so that guests end before the device processes that they use, in whatever order
# a test names the two: fixtures end in the reverse order of their start.
@pytest.fixture
def boot(tmp_path, serve):
    """boot(devices=[...], memory="512M", ...) runs a guest (see vm.VM); it ends with the test."""
    with booting(tmp_path) as start:
        yield start


# The same for a guest that all tests of a file share. Such a file keeps its tests in one process:
#     pytestmark = pytest.mark.xdist_group("a name")

@pytest.fixture(scope="module")
def module_serve(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("served")) as start:
        yield start


@pytest.fixture(scope="module")
def module_boot(tmp_path_factory, module_serve):
    with booting(tmp_path_factory.mktemp("guests")) as start:
        yield start
