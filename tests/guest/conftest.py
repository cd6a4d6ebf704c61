import subprocess
from pathlib import Path

import pytest

from vm import VM


@pytest.fixture(scope="session")
def guest_program(tmp_path_factory):
    """guest_program("name.c") compiles a file of this folder, static, for boot(files=...)."""

    def build(source):
        program = tmp_path_factory.mktemp("guest") / Path(source).stem
        subprocess.run(["gcc", "-std=gnu17", "-O1", "-Wall", "-Werror", "-static", "-o", program,
                        Path(__file__).parent / source], check=True)
        return program

    return build


# It asks for serve so that guests end before the device processes that they use, in whatever order
# a test names the two: fixtures end in the reverse order of their start.
@pytest.fixture
def boot(tmp_path, serve):
    """boot(devices=[...], memory="512M", ...) runs a guest (see vm.VM); it ends with the test."""
    machines = []

    def start(**options):
        machines.append(VM(tmp_path / f"vm{len(machines)}", **options))
        machines[-1].wait_ready()
        return machines[-1]

    yield start
    for machine in machines:
        machine.stop()
