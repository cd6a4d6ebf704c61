"""Where the test devices are, and their registers."""

from pathlib import Path

from program import OUTBOARD

BUILD = Path(OUTBOARD).resolve().parent
PROBE = BUILD / "tests/devices/probe.so"
MORTAL = BUILD / "tests/devices/mortal.so"
MORTAL_NVME = BUILD / "tests/devices/mortal-nvme.so"
ESCAPE = BUILD / "tests/devices/escape.so"


class Edu:
    """Registers of edu, offsets in BAR 0."""

    ID, LIVENESS, FACTORIAL, STATUS, IRQ_STATUS = 0, 4, 8, 0x20, 0x24
    RAISE, ACKNOWLEDGE = 0x60, 0x64
    SOURCE, DESTINATION, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
    RUN, TO_RAM, IRQ = 1, 2, 4
    BUFFER = 0x40000


class Probe:
    """Registers of probe.c, offsets in BAR 0."""

    (ID, SCRATCH, INTX, MESSAGE, ERROR, REQUEST, FAIL, VECTORS, RESETS, IRQ_CHANGES, MEMORY_CHANGES,
     PEEK_AT, PEEK, TRAPPED_AT, TRAPPED_SIZE, PIN_ADDRESS, PIN_MS, COMMITTED) = range(0, 72, 4)
    TIMER, TICKS = 72, 84
    DOORBELL, RUNG, SUM = 96, 100, 104
    HOLD = 0x3fff  # in BAR 2
    ID_VALUE = 0x0b0a2d01
    TABLE, PBA, VECTOR_COUNT = 0x8000, 0x9000, 80  # in BAR 4

    # Of a DMA channel, offsets from CHANNEL + 32 * n.
    CHANNEL = 0x100
    (ADDRESS_LOW, ADDRESS_HIGH, MEMORY, SIZE, COMMAND, RESULT, DONE, NEXT) = range(0, 32, 4)
    READ, WRITE, LATER = 1, 2, 0x100
    MEMORY_SIZE = 1 << 20
