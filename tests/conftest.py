"""Fixtures that the tests of whole programs and those with a guest share."""

import pytest

from program import serving


@pytest.fixture
def serve(tmp_path):
    """serve("edu", "key=value", ...) starts a device's process; it ends with the test."""
    with serving(tmp_path) as start:
        yield start
