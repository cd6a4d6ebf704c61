"""Fixtures that the tests of whole programs and those with a guest share."""

import pytest

from program import Server


@pytest.fixture
def serve(tmp_path):
    """serve("edu", "key=value", ...) starts a device's process; it ends with the test."""
    servers = []

    def start(device, *params, **options):
        folder = tmp_path / f"{device.rsplit('/', 1)[-1]}{len(servers)}"
        servers.append(Server(folder, device, *params, **options))
        return servers[-1]

    yield start
    failures = []
    for server in servers:
        try:
            server.stop()
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)
