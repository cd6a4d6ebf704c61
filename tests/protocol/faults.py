"""Servers with one fault each, made by a relay before a server without any, and what finds them.

FAULTS is the table: a fault and the checks that have to fail on it, no more and no fewer. A few checks take long
through a relay; they are left out, but for the faults that they are meant for, whose options choose the checks.
"""

import errno
import fcntl
import mmap
import os
import struct
import termios

import raw
from raw import (BAR0, BAR2, BAR4, CONFIG, DMA_MAP, DMA_UNMAP, FEATURE, GET_INFO, GET_IRQ_INFO,
                 GET_REGION_INFO, GET_REGION_IO_FDS, MIG_DATA_READ, REGION_READ, REGION_WRITE,
                 REGION_WRITE_MULTI, RESET, SET_IRQS, VERSION)
from relay import ERROR, NO_REPLY, Fault

BASE, PAGE = 1 << 40, 4096
GET, SET, PROBE = 1 << 16, 2 << 16, 4 << 16
FAULTS = []


def fault(*expected, options=()):
    """Enters a class into the table."""
    def enter(cls):
        FAULTS.append((cls, expected, list(options)))
        return cls
    return enter


class Reply(Fault):
    """Falsifies replies to one command."""
    command = None

    def reply(self, session, request, reply):
        if request.command != self.command:
            return reply
        return self.falsify(session, request, reply) or reply

    def falsify(self, session, request, reply):
        raise NotImplementedError


class Serves(Reply):
    """Serves what has to be refused: what this one wants, with this body."""

    def wants(self, request):
        raise NotImplementedError

    def body(self, request):
        return b""

    def falsify(self, session, request, reply):
        if reply.flags & ERROR and self.wants(request):
            reply.serve(self.body(request))


# ---- header, message ----------------------------------------------------------------------------


@fault("header.id-ffff")
class AnotherId(Reply):
    command = GET_INFO

    def falsify(self, session, request, reply):
        if reply.id == 0xffff:
            reply.id = 0xfffe


@fault("header.command-14")
class ErrorWithBody(Fault):
    def reply(self, session, request, reply):
        if request.command == 14:
            reply.body = bytearray(4)
        return reply


@fault("header.command-19")
class UnknownCommandServed(Serves):
    command = 19

    def wants(self, request):
        return True


@fault("header.type-15")
class TypeIgnored(Fault):
    def request(self, session, message):
        if message.flags & 0xf == 15:
            message.flags &= ~0xf
        return message


@fault("header.dma-read")
class DmaReadOfTheClient(Serves):
    command = raw.DMA_READ

    def wants(self, request):
        return True


@fault("message.no-reply-irq-info")
class AnswersNoReply(Fault):
    def request(self, session, message):
        if message.command == GET_IRQ_INFO:
            message.flags &= ~NO_REPLY
        return message


@fault("message.empty-dma-unmap")
class EmptyUnmapServed(Serves):
    command = DMA_UNMAP

    def wants(self, request):
        return not request.body


@fault("message.cut-write")
class CutWriteServed(Serves):
    command = REGION_WRITE

    def wants(self, request):
        return len(request.body) == 19

    def body(self, request):
        return request.body[:16]


@fault("message.fd-info", options=["--timeout=3000"])
class KeepsDescriptors(Fault):
    def __init__(self):
        self.kept = []

    def request(self, session, message):
        if message.command == GET_INFO and len(message.fds) == 1:
            self.kept.append(os.dup(message.fds[0]))
        return message


# ---- device, region, irq ------------------------------------------------------------------------


@fault("device.argsz", "device.argsz-17", "device.argsz-4096", "device.argsz-max")
class DeviceInfoArgsz(Reply):
    command = GET_INFO

    def falsify(self, session, request, reply):
        if not reply.flags & ERROR and request.get("I") >= 16 and reply.get("I") == 16:
            reply.put("I", 0, 8)


@fault("device.bus")
class TwoBuses(Reply):
    command = GET_INFO

    def falsify(self, session, request, reply):
        if reply.body:
            reply.put("I", 4, reply.get("I", 4) | 4)


@fault("device.other-fields")
class DeviceInfoEchoed(Reply):
    command = GET_INFO

    def falsify(self, session, request, reply):
        if request.get("I", 8) and reply.body:
            reply.body[4:16] = request.body[4:16]


class RegionInfo(Reply):
    """Falsifies what is said of one region."""
    command = GET_REGION_INFO
    region = BAR0

    def falsify(self, session, request, reply):
        if reply.body and request.get("I", 8) == self.region:
            self.lie(request, reply)

    def lie(self, request, reply):
        raise NotImplementedError


@fault("region.index")
class AnotherRegion(RegionInfo):
    def lie(self, request, reply):
        reply.put("I", 8, 1)


@fault("region.sparse", "region.mmap")
class AreaOutside(RegionInfo):
    region = BAR4

    def lie(self, request, reply):
        if len(reply.body) >= 64:
            reply.put("Q", 48, 1 << 20)


@fault("region.caps-chain", "region.sparse", "region.type", "region.mmap")
class CapabilitiesLoop(RegionInfo):
    region = BAR4

    def lie(self, request, reply):
        if len(reply.body) >= 40:
            reply.put("I", 36, 32)


@fault("region.caps-flag", "limit.data")
class NoCapsFlag(RegionInfo):
    region = BAR4

    def lie(self, request, reply):
        reply.put("I", 4, reply.get("I", 4) & ~8)


@fault("region.mmap-fd")
class NoDescriptor(RegionInfo):
    region = BAR2

    def lie(self, request, reply):
        reply.drop_fds()


@fault("region.argsz-retry", "region.argsz-one-less")
class NeverTheNeededSize(RegionInfo):
    region = BAR4

    def lie(self, request, reply):
        if len(reply.body) == 32:
            reply.put("I", 0, 32)


@fault("region.none-far")
class RegionFromNowhere(Serves):
    command = GET_REGION_INFO

    def wants(self, request):
        return 1000 <= (request.get("I", 8) or 0) < 1100

    def body(self, request):
        return request.body


@fault("region.bar-sizes", "config-write.bars")
class OddSize(RegionInfo):
    def lie(self, request, reply):
        reply.put("Q", 16, 3000)


@fault("irq.count-msi", "config.msi", "set-irqs.assign-all", "set-irqs.assign-last", "limit.fds")
class TooManyMsi(Reply):
    command = GET_IRQ_INFO

    def falsify(self, session, request, reply):
        if reply.body and request.get("I", 8) == raw.MSI:
            reply.put("I", 12, 33)


@fault("irq.automasked")
class NotMaskable(Reply):
    command = GET_IRQ_INFO

    def falsify(self, session, request, reply):
        if reply.body and request.get("I", 8) == raw.INTX:
            reply.put("I", 4, reply.get("I", 4) & ~2)


@fault("irq.none-max")
class IrqFromNowhere(Serves):
    command = GET_IRQ_INFO

    def wants(self, request):
        return request.get("I", 8) == 0xffffffff

    def body(self, request):
        return request.body


# ---- access, config, config-write, multi, io-fds ------------------------------------------------


class Read(Reply):
    """Falsifies data of reads that were served."""
    command = REGION_READ

    def falsify(self, session, request, reply):
        if len(reply.body) > 16:
            offset, region, count = request.get("QII")
            self.lie(session, region, offset, count, reply)


@fault("access.width-2")
class WidthTwo(Read):
    def lie(self, session, region, offset, count, reply):
        if (region, offset, count) == (CONFIG, 8, 2):
            reply.body[16] ^= 1


@fault("access.read-2-63")
class ReadsAnywhere(Serves):
    command = REGION_READ

    def wants(self, request):
        return request.get("Q") == 1 << 63

    def body(self, request):
        return request.body + bytes(4)


@fault("access.write-behind")
class WritesAnywhere(Serves):
    command = REGION_WRITE

    def wants(self, request):
        return request.get("QII") == (0x3000, 10, 4)  # the last region has 0x2000 bytes

    def body(self, request):
        return request.body[:16]


@fault("access.read-echo-4")
class EchoesAnotherOffset(Read):
    def lie(self, session, region, offset, count, reply):
        if (region, offset, count) == (CONFIG, 4, 4) and not session.pending:
            reply.put("Q", 0, 0)


@fault("access.write-echo")
class NothingWritten(Reply):
    command = REGION_WRITE

    def falsify(self, session, request, reply):
        if reply.body and request.get("QII") == (0, CONFIG, 4) and request.body[16] != 0:
            reply.put("I", 12, 0)


class ConfigBytes(Read):
    """Other bytes in config space, at whatever width they are read."""
    bytes = {}

    def lie(self, session, region, offset, count, reply):
        for at, value in self.bytes.items():
            if region == CONFIG and offset <= at < offset + count:
                reply.body[16 + at - offset] = value


@fault("config.pin")
class PinFive(ConfigBytes):
    bytes = {0x3d: 5}


@fault("config.caps", "config.msi", "config.msix-count", "config.msix-places", "config.express")
class OddPointer(ConfigBytes):
    bytes = {0x34: 0x42}


@fault("config.header")
class NoVendor(ConfigBytes):
    bytes = {0: 0xff, 1: 0xff}


@fault("config-write.ro-device")
class DeviceIdCanBeWritten(Read):
    value = None

    def request(self, session, message):
        if message.command == REGION_WRITE and message.get("QII") == (2, CONFIG, 2):
            self.value = bytes(message.body[16:])
        return message

    def lie(self, session, region, offset, count, reply):
        if (region, offset, count) == (CONFIG, 2, 2) and self.value:
            reply.body[16:] = self.value


@fault("config-write.bars")
class SizingIsWrong(Read):
    def lie(self, session, region, offset, count, reply):
        if (region, offset, count) == (CONFIG, 0x10, 4) and reply.get("I", 16) >= 0xff000000:
            reply.put("I", 16, reply.get("I", 16) & 0xffff0000)


@fault("multi.eight")
class CountsSeven(Reply):
    command = REGION_WRITE_MULTI

    def falsify(self, session, request, reply):
        if reply.body and reply.get("Q") == 8 and not any(request.body[24:32]):
            reply.put("Q", 0, 7)


@fault("multi.wide-9")
class NineBytes(Serves):
    command = REGION_WRITE_MULTI

    def wants(self, request):
        return request.get("I", 20) == 9

    def body(self, request):
        return request.body[:8]


@fault("multi.fewer")
class FewerServed(Serves):
    command = REGION_WRITE_MULTI

    def wants(self, request):
        return request.get("Q") == 2 and len(request.body) == 32

    def body(self, request):
        return request.body[:8]


@fault("io-fds.none-max")
class IoFdsFromNowhere(Serves):
    command = GET_REGION_IO_FDS

    def wants(self, request):
        return request.get("I", 8) == 0xffffffff

    def body(self, request):
        return request.body


class IoFds(Reply):
    """Sub-regions of BAR 0, with one descriptor."""
    command = GET_REGION_IO_FDS
    offset, index, flags = 0, 0, 0

    def falsify(self, session, request, reply):
        if request.get("I", 8) != BAR0 or request.get("I") < 16:
            return
        reply.drop_fds()
        whole = request.get("I") >= 56
        body = struct.pack("=IIII", 56, 0, self.index_said(), 1)
        body += struct.pack("=QQIIIIQ", self.offset, 4, self.index, 0, self.flags, 0, 0)
        reply.serve(body if whole else body[:16])
        reply.fds = [os.eventfd(0)] if whole else []

    def index_said(self):
        return BAR0


@fault("io-fds.descriptors")
class IoFdsIndex(IoFds):
    index = 1


@fault("io-fds.sub-regions")
class IoFdsOutside(IoFds):
    offset = 1 << 40


@fault("io-fds.reply")
class IoFdsOfAnother(IoFds):
    def index_said(self):
        return BAR4


@fault()
class IoFdsAsTheyShouldBe(IoFds):
    """What the three before it differ from."""


# ---- set-irqs, dma, dma-file --------------------------------------------------------------------


@fault("set-irqs.flags-mask-trigger")
class TwoActions(Serves):
    command = SET_IRQS

    def wants(self, request):
        return request.get("I", 4) == 1 | 8 | 32


@fault("set-irqs.start-behind")
class OneBehind(Serves):
    command = SET_IRQS

    def wants(self, request):
        return request.get("I", 4) == 1 | 32 and request.get("II", 12) == (1, 1)


@fault("set-irqs.bool-fewer")
class FewerBooleans(Serves):
    command = SET_IRQS

    def wants(self, request):
        return len(request.body) >= 20 and request.get("I", 4) == 2 | 32 and len(request.body) == 20


class Swallows(Fault):
    """Says that it did what it did not."""

    def request(self, session, message):
        return message.answer(self.body(message)) if self.wants(message) else message

    def body(self, message):
        return b""


@fault("set-irqs.trigger")
class TriggersNothing(Swallows):
    def wants(self, message):
        return message.command == SET_IRQS and message.get("I", 4) == 1 | 32 and \
            message.get("I", 16) == 1 and message.get("I", 12) == 0 and message.get("I", 8) == 0


@fault("set-irqs.silent-unassigned")
class NeverUnassigns(Swallows):
    def wants(self, message):
        return message.command == SET_IRQS and message.get("I", 4) == 4 | 32 and \
            message.get("I", 16) == 1 and not message.fds and message.get("I", 8) != 77 and \
            message.get("I", 12) == 0


@fault("dma.overlap-same", "dma.overlap-same-messages")
class AnotherError(Reply):
    command = DMA_MAP

    def falsify(self, session, request, reply):
        if reply.error == errno.EEXIST and request.get("QQ", 16) == (BASE + 16 * PAGE, 4 * PAGE):
            reply.error = errno.EINVAL


@fault("dma.overlap-end", "dma.overlap-end-messages")
class OverlapServed(Serves):
    command = DMA_MAP

    def wants(self, request):
        return request.get("QQ", 16) == (BASE + 19 * PAGE, 2 * PAGE)


@fault("dma.size-0")
class NoBytesMapped(Serves):
    command = DMA_MAP

    def wants(self, request):
        return request.get("Q", 24) == 0


@fault("dma.unmap-echo", "dma.unmap-echo-messages")
class UnmapWithoutEntry(Reply):
    command = DMA_UNMAP

    def falsify(self, session, request, reply):
        if reply.body and request.get("Q", 16) == 2 * PAGE and request.get("Q", 8) == BASE:
            reply.put("Q", 16, PAGE)


@fault("dma.unmap-all", "dma.unmap-all-messages")
class UnmapAllOfNothing(Swallows):
    def wants(self, message):
        return message.command == DMA_UNMAP and message.get("I", 4) == 2 and \
            message.get("QQ", 8) == (0, 0)

    def body(self, message):
        return message.body


@fault("dma.gone", "dma.gone-messages")
class MapsStay(Fault):
    """A client without version data finds what the last one of its kind had mapped."""
    mapped = False

    def request(self, session, message):
        if message.command == VERSION:
            session.bare = len(message.body) == 4
        if message.command == DMA_MAP and getattr(session, "bare", False):
            if self.mapped:
                self.mapped = False
                return message.answer(error=errno.EEXIST)
            self.mapped = True
        return message


@fault("dma-file.released", "dma-file.released-end")
class KeepsMapping(Fault):
    def __init__(self):
        self.kept = []

    def request(self, session, message):
        if message.command == DMA_MAP and message.fds and message.get("QQ", 16) == (BASE, 16 * PAGE):
            try:
                self.kept.append(mmap.mmap(message.fds[0], 16 * PAGE))
            except (OSError, ValueError):
                pass
        return message


@fault("dma-file.offset")
class NoOffsets(Reply):
    command = DMA_MAP

    def falsify(self, session, request, reply):
        if request.get("QQQ", 8) == (8 * PAGE, BASE, PAGE) and not reply.flags & ERROR:
            reply.refuse(errno.EINVAL)


# ---- feature, logging, migration, reset ---------------------------------------------------------


@fault("feature.bad-probe-unknown")
class KnowsEverything(Serves):
    command = FEATURE

    def wants(self, request):
        return request.get("I", 4) == PROBE | 0xffff

    def body(self, request):
        return request.body[:8]


@fault("feature.migration")
class NoStopCopy(Reply):
    command = FEATURE

    def falsify(self, session, request, reply):
        if len(reply.body) == 16 and request.get("I", 4) == GET | 1:
            reply.put("Q", 8, reply.get("Q", 8) & ~1)


@fault("feature.migration-argsz", "feature.state-argsz", "logging.report-argsz")
class NoRoomIsAnError(Reply):
    """As VFIO's ioctl has it."""
    command = FEATURE

    def falsify(self, session, request, reply):
        argsz, flags = request.get("II") or (0, 0)
        if flags & GET and not flags & PROBE and reply.body and reply.get("I") > argsz:
            reply.refuse(errno.EINVAL)


@fault("feature.migration-argsz")
class MoreThanAskedFor(Reply):
    command = FEATURE

    def falsify(self, session, request, reply):
        if request.get("II") == (8, GET | 1) and reply.body:
            reply.body += bytes(8)


@fault("feature.probe-get-migration")
class ProbeOfAnother(Reply):
    command = FEATURE

    def falsify(self, session, request, reply):
        if request.get("I", 4) == PROBE | GET | 1 and len(reply.body) == 8:
            reply.put("I", 4, 0)


@fault("feature.agrees-state", "feature.probe-both-state")
class ProbeRefused(Reply):
    command = FEATURE

    def falsify(self, session, request, reply):
        if request.get("I", 4) == PROBE | GET | 2:
            reply.refuse(errno.ENOTTY)


@fault("logging.bitmap-33")
class BitsOutside(Reply):
    command = FEATURE

    def falsify(self, session, request, reply):
        if reply.body and request.get("I", 4) == GET | 8 and request.get("Q", 16) == 33 * PAGE:
            reply.body[-1] |= 0x80


@fault("logging.report-never", "logging.report-stopped")
class ReportsNothing(Serves):
    command = FEATURE

    def wants(self, request):
        return request.get("I", 4) == GET | 8 and request.get("QQQ", 8) == (BASE, 64 * PAGE, PAGE)

    def body(self, request):
        return request.body + bytes(8)


@fault("logging.page-3000")
class AnyPageSize(Serves):
    command = FEATURE

    def wants(self, request):
        return request.get("I", 4) == GET | 8 and request.get("Q", 24) == 3000

    def body(self, request):
        return request.body + bytes(16)


@fault("migration.no-copy-pre")
class BackToPreCopy(Serves):
    command = FEATURE

    def reply(self, session, request, reply):
        if request.command == FEATURE and len(request.body) == 16 and request.get("I", 4) == SET | 2:
            if request.get("I", 8) == 6 and getattr(session, "state", 0) == 3:
                reply.serve(request.body)
            session.state = request.get("I", 8)
        return reply


@fault("migration.no-8", "migration.no-stop-8")
class StateEight(Serves):
    command = FEATURE

    def wants(self, request):
        return request.get("I", 4) == SET | 2 and request.get("I", 8) == 8

    def body(self, request):
        return request.body


@fault("migration.read-running")
class StreamOfARunningDevice(Serves):
    command = MIG_DATA_READ
    state = 2

    def request(self, session, message):
        if message.command == FEATURE and message.get("I", 4) == SET | 2:
            self.state = message.get("I", 8)
        if message.command == VERSION:
            self.state = 2
        return message

    def wants(self, request):
        return self.state == 2 and request.get("II") == (72, 64)

    def body(self, request):
        return struct.pack("=II", 8, 0)


@fault("migration.bad-short")
class AnyStream(Fault):
    """Bad data is taken, and the end of it as well."""

    def request(self, session, message):
        if message.command == raw.MIG_DATA_WRITE and message.body[8:] == b"xxx":
            session.junk = True
            return message.answer()
        return message

    def reply(self, session, request, reply):
        if request.command == FEATURE and request.get("I", 4) == SET | 2 and \
                getattr(session, "junk", False):
            session.junk = False
            reply.serve(request.body)
        return reply


@fault("migration.round-trip-7", options=["--only=migration.round-trip*"])
class SmallReads(Reply):
    command = MIG_DATA_READ

    def falsify(self, session, request, reply):
        if request.get("I", 4) < 1000 and len(reply.body) > 8:
            reply.body[-1] ^= 1


@fault("migration.round-trip-7", "migration.round-trip-crumbs", options=["--only=migration.round-trip*"])
class LosesAPieceOfMany(Swallows):
    pieces = 0

    def wants(self, message):
        self.pieces = self.pieces + 1 if message.command == raw.MIG_DATA_WRITE else 0
        return self.pieces == 500


@fault("reset.works", "reset.again")
class ResetWithBody(Reply):
    command = RESET

    def falsify(self, session, request, reply):
        if not reply.flags & ERROR:
            reply.body = bytearray(4)


@fault("reset.memory", "reset.memory-messages")
class ResetUnmaps(Fault):
    """The first map after a reset always works."""

    def reply(self, session, request, reply):
        if request.command == RESET:
            session.was_reset = True
        if request.command == DMA_MAP and getattr(session, "was_reset", False):
            session.was_reset = False
            reply.serve()
        return reply


# ---- limit, framing, version, session, robust ---------------------------------------------------


@fault("limit.fds", "set-irqs.assign-all")
class BoastsOfDescriptors(Reply):
    command = VERSION

    def falsify(self, session, request, reply):
        reply.body = reply.body.replace(b'"max_msg_fds":16', b'"max_msg_fds":20')


@fault("framing.many")
class LosesOne(Fault):
    """The last of 128 messages that come at once."""

    def request(self, session, message):
        return None if message.id == 127 and message.command == GET_REGION_INFO else message


@fault("framing.longest", "framing.longest-8")
class ShortOfBreath(Fault):
    def request(self, session, message):
        if message.command == REGION_WRITE and len(message.body) == 16 + raw.MAX_DATA:
            session.close()
            return None
        return message


class Weary(Fault):
    """Does as it should, so many times in a session, and then no more."""
    times = 0

    def wants(self, message):
        raise NotImplementedError

    def request(self, session, message):
        if not self.wants(message):
            return message
        session.count = getattr(session, "count", 0) + 1
        return message.answer(error=errno.ENOSPC) if session.count > self.times else message


@fault("limit.dma-maps", options=["--only=limit"])
class FewerMapsThanItSays(Weary):
    times = 1000

    def wants(self, message):
        return message.command == DMA_MAP


@fault("framing.stream", options=["--only=framing"])
class TiresOfQuestions(Weary):
    times = 3000

    def wants(self, message):
        return message.command == GET_INFO


@fault("framing.bytes-slow", options=["--only=framing.bytes-slow"])
class WantsMessagesAtOnce(Fault):
    """Gives a client up of which it has received something 20 times and no message."""

    def received(self, session):
        session.parts = getattr(session, "parts", 0) + 1
        if session.parts == 20:
            session.close()

    def request(self, session, message):
        session.parts = 0
        return message


@fault("version.minor-0")
class NewerThanProposed(Reply):
    command = VERSION

    def falsify(self, session, request, reply):
        if reply.body and request.get("HH") == (0, 0):
            reply.put("H", 2, 1)


@fault("version.reply", "version.reply-max_msg_fds", "version.reply-max_data_xfer_size",
       "version.reply-max_dma_maps", "version.reply-pgsizes", "version.reply-write_multiple",
       "version.subset-write_multiple", "version.subset-twin_socket", "version.subset-twin_socket-false",
       "version.twin_socket")
class NoNul(Reply):
    command = VERSION

    def falsify(self, session, request, reply):
        if reply.body:
            reply.body[-1] = ord(" ")


@fault("version.reply-max_dma_maps")
class MapsInWords(Reply):
    command = VERSION

    def falsify(self, session, request, reply):
        reply.body = reply.body.replace(b'"max_dma_maps":65535', b'"max_dma_maps":"all"')


@fault("version.subset-write_multiple")
class NotProposed(Reply):
    command = VERSION

    def falsify(self, session, request, reply):
        if b"write_multiple" not in request.body:
            reply.body = reply.body.replace(b'"write_multiple":false', b'"write_multiple":true')


@fault("session.second", "session.many", "session.many-begun")
class LastOneWins(Fault):
    def request(self, session, message):
        if self.relay.is_last(session):
            return message
        session.close()
        return None


@fault("session.come-and-go", "session.come-and-say", options=["--only=session.come-*"])
class NeverForgetsAClient(Fault):
    clients = 0

    def begin(self, session):
        self.clients += 1
        if self.clients > 300:
            session.close()


@fault("session.come-and-say", options=["--only=session.come-*"])
class NeverForgetsAVersion(Fault):
    clients = 0

    def request(self, session, message):
        self.clients += message.command == VERSION
        return message.answer(error=errno.EMFILE) if self.clients > 300 else message


@fault("session.irqs-gone")
class RemembersEventfds(Fault):
    """Signals what the client before had assigned."""
    last = None

    def request(self, session, message):
        if message.command == SET_IRQS and message.get("I", 4) == 4 | 32 and message.fds:
            self.last = (session, os.dup(message.fds[0]))
        elif message.command == SET_IRQS and message.get("I", 4) == 1 | 32 and self.last and \
                self.last[0] is not session:
            os.write(self.last[1], struct.pack("=Q", 1))
        return message


@fault("robust.wrong-irq-info", options=["--timeout=3000"])
class SaysNothing(Fault):
    """To what it does not like: a body of its own length."""

    def reply(self, session, request, reply):
        if request.command == GET_IRQ_INFO and 1 < len(request.body) < 15 and len(request.body) != 4:
            return None
        return reply


@fault("robust.never-reads", options=["--only=robust.never-reads"])
class DiesOfRepliesThatNobodyReads(Fault):
    def reply(self, session, request, reply):
        if session.client.fileno() >= 0:
            unread, = struct.unpack("i", fcntl.ioctl(session.client, termios.TIOCOUTQ, bytes(4)))
            if unread > 50000:
                self.relay.close()
        return reply
