"""The clock, by messages: what its registers do, right or wrong, and how it is started."""

import errno
import subprocess
import time

import pytest

from program import OUTBOARD
from raw import DATA_EVENTFD, DATA_NONE, TIMEOUT, TRIGGER, UNMASK, Event, refused, when_free

DR, MR, LR, CR, IMSC, RIS, MIS, ICR = range(0, 0x20, 4)
ID = 0xfe0
ALL = 0xffffffff


class Clock:
    def __init__(self, client):
        self.c = client
        self.event = Event()
        client.set_irqs(0, DATA_EVENTFD | TRIGGER, fds=[self.event])

    def get(self, register):
        return self.c.get32(0, register)

    def set(self, register, value):
        self.c.set32(0, register, value)

    def unmask(self):
        self.c.set_irqs(0, DATA_NONE | UNMASK)


@pytest.fixture
def clock(serve, connect):
    return lambda *params: Clock(connect(serve("rtc", *params)))


def test_registers_at_the_start(clock):
    rtc = clock()
    assert rtc.c.device_info() == (16, 4 | 1, 1, 1)
    assert [rtc.get(r) for r in (MR, LR, CR, IMSC, RIS, MIS, ICR)] == [0, 0, 1, 0, 0, 0, 0]
    assert [rtc.get(ID + 4 * i) for i in range(8)] == [0x31, 0x10, 0x14, 0, 0x0d, 0xf0, 0x05, 0xb1]
    assert rtc.event.count() == 0


def test_host_time(clock):
    rtc = clock("time=host")
    before = int(time.time())
    assert before <= rtc.get(DR) <= time.time()


def test_start_time(clock):
    rtc = clock("time=86400")
    assert 86400 <= rtc.get(DR) < 86400 + 3600
    rtc.c.reset()
    assert rtc.get(DR) >= 86400  # a reset is not a power failure


@pytest.mark.parametrize("text", ["", "-1", "4294967296", "99999999999999999999", "1K", "noon", "1 "])
def test_bad_times(tmp_path, text):
    done = subprocess.run([OUTBOARD, "serve", "rtc", f"time={text}", f"--socket-path={tmp_path}/s"],
                          capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and f"time={text}:" in done.stderr


def test_load(clock):
    rtc = clock()
    for value in 0, 1 << 31, 5:
        rtc.set(LR, value)
        assert rtc.get(LR) == value and value <= rtc.get(DR) < value + 3600


def test_the_counter_goes_round(clock):
    rtc = clock(f"time={ALL - 1}")
    rtc.set(IMSC, 1)  # the match register is 0
    assert rtc.event.wait() == 1
    assert rtc.get(DR) < 3600 and rtc.get(MIS) == 1


def test_match_now(clock):
    rtc = clock()
    rtc.set(MR, 100)
    rtc.set(LR, 100)
    assert rtc.get(RIS) == 1 and rtc.get(MIS) == 0
    assert rtc.event.count() == 0  # nobody let it out
    rtc.set(IMSC, ALL)
    assert rtc.get(IMSC) == 1 and rtc.event.count() == 1
    rtc.set(ICR, 1)
    rtc.unmask()
    assert rtc.event.count() == 0 and rtc.get(RIS) == 0


def test_match_behind(clock):
    rtc = clock("time=1000")
    rtc.set(IMSC, 1)
    for match in 999, 0, 1000 + (1 << 31):
        rtc.set(MR, match)
        assert rtc.get(RIS) == 0
    assert rtc.event.count() == 0


def test_mask_of_a_raised_alarm(clock):
    rtc = clock()
    rtc.set(MR, rtc.get(DR) + 1)
    rtc.set(IMSC, 1)
    assert rtc.event.wait() == 1
    rtc.set(IMSC, 0)
    rtc.unmask()
    assert rtc.event.count() == 0 and (rtc.get(RIS), rtc.get(MIS)) == (1, 0)
    rtc.set(IMSC, 1)
    assert rtc.event.count() == 1


def test_an_alarm_of_a_client_that_has_gone(serve, connect):
    server = serve("rtc")
    first = Clock(connect(server))
    first.set(MR, first.get(DR) + 1)
    first.set(IMSC, 1)
    first.c.close()
    second = Clock(when_free(lambda: connect(server)))
    if not second.event.count():
        assert second.event.wait() == 1
    assert second.get(MIS) == 1


def test_writes_that_do_nothing(clock):
    rtc = clock("time=500")
    for register in (DR, CR, RIS, MIS, 0x20, 0x100, ID, ID + 28):
        before = rtc.get(register)
        rtc.set(register, ALL)
        assert rtc.get(register) - before <= (3600 if register == DR else 0)


@pytest.mark.parametrize("offset, size", [(0, 1), (0, 2), (0, 8), (2, 4), (0x1000, 4), (0xffe, 4),
                                          (ALL << 32, 4)])
def test_bad_accesses(clock, offset, size):
    rtc = clock()
    with refused(errno.EINVAL):
        rtc.c.read(0, offset, size)
    with refused(errno.EINVAL):
        rtc.c.write(0, offset, bytes(size))
    with refused(errno.EINVAL):
        rtc.c.read(1, 0, 4)
