import pytest

from vm import VM


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
