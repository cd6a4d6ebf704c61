"""The device of docs/devices.md: the text shows it as it is, and it works when it is built as said."""

import re
import shlex
import subprocess

import pytest

from program import TOP
from raw import BAR2, CONFIG, DATA_EVENTFD, INTX, TRIGGER, Event

SOURCE = TOP / "examples/gpio/gpio.c"
TEXT = (TOP / "docs/devices.md").read_text()

OUT_LOW, IN_LOW, IRQ_CONTROL, OUT_HIGH, IN_HIGH, IRQ_STATUS = 0, 1, 2, 4, 5, 6


@pytest.fixture
def gpio(serve, tmp_path):
    """Built outside the tree, by the command in the text, with all warnings made errors."""
    command = re.search(r"^    \$ (cc .* -o gpio\.so gpio\.c)$", TEXT, re.MULTILINE)[1]
    (tmp_path / "gpio.c").write_bytes(SOURCE.read_bytes())
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror", f"-I{TOP / 'include'}"]
    subprocess.run(shlex.split(command) + warnings, check=True, cwd=tmp_path)
    return serve(str(tmp_path / "gpio.so"))


def get(c, register):
    return c.read(BAR2, register, 1)[0]


def put(c, register, value):
    c.write(BAR2, register, bytes([value]))


def test_the_text_shows_the_file():
    shown = re.search(r"```c\n(/\*\n \* gpio\.c.*?)```", TEXT, re.DOTALL)[1]
    assert shown == SOURCE.read_text()


def test_pins(gpio, connect):
    c = connect(gpio)
    assert c.read(CONFIG, 0, 4) == bytes.fromhex("4f49 c80d")
    assert [get(c, r) for r in (OUT_LOW, IN_LOW, OUT_HIGH, IN_HIGH)] == [0, 0, 0, 0]
    put(c, OUT_LOW, 0xa5)
    put(c, OUT_HIGH, 0x3c)
    assert [get(c, r) for r in (OUT_LOW, IN_LOW, OUT_HIGH, IN_HIGH)] == [0xa5, 0xa5, 0x3c, 0x3c]
    assert get(c, 7) == 0xff and get(c, 255) == 0xff
    c.reset()
    assert get(c, IN_LOW) == 0 and get(c, IN_HIGH) == 0


def test_interrupts(gpio, connect):
    c = connect(gpio)
    event = Event()
    c.set_irqs(INTX, DATA_EVENTFD | TRIGGER, fds=[event])
    put(c, OUT_LOW, 1)
    assert event.count() == 0 and get(c, IRQ_STATUS) == 0, "it was not enabled"
    get(c, IRQ_CONTROL)
    put(c, OUT_LOW, 1)
    assert event.count() == 0, "nothing changed"
    put(c, OUT_HIGH, 0x80)
    assert event.count() == 1 and get(c, IRQ_STATUS) == 1
    put(c, IN_LOW, 0)
    assert get(c, IRQ_STATUS) == 0
    put(c, IRQ_CONTROL, 0)
    put(c, OUT_HIGH, 0)
    assert event.count() == 0 and get(c, IRQ_STATUS) == 0


def test_pins_outlast_a_client(gpio, connect):
    c = connect(gpio)
    put(c, OUT_LOW, 0x42)
    c.close()
    assert get(connect(gpio), IN_LOW) == 0x42
