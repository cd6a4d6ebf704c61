/*
 * registers.c - BAR 0, and the life that CC and CSTS describe: enabled, reset, shut down, failed.
 *
 * A write of a register changes the state and nothing else, as the step of a message may be undone;
 * work() draws the consequences. What takes time (a reset that waits for I/O, a shutdown that waits for
 * the disk) is asked for here and ends in controller_settle().
 */
#include "nvme.h"

#include <endian.h>
#include <string.h>

/* CAP (3.1.1): MQES, CQR, TO in 500 ms, DSTRD 0, NSSRS, CSS: NVM, MPSMIN 4 KiB, MPSMAX 64 KiB. */
#define CAP ((uint64_t)(ENTRIES - 1) | 1ull << 16 | 60ull << 24 | 1ull << 36 | 1ull << 37 | 4ull << 52)

/* ---- Reading --------------------------------------------------------------------------------------- */

static void put32(uint8_t *image, unsigned at, uint32_t v)
{
    v = htole32(v);
    memcpy(image + at, &v, 4);
}

static void put64(uint8_t *image, unsigned at, uint64_t v)
{
    v = htole64(v);
    memcpy(image + at, &v, 8);
}

int registers_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    const struct nvme *s = ob_state(dev);
    uint8_t image[0x40] = { 0 };

    put64(image, REG_CAP, CAP);
    put32(image, REG_VS, VERSION_1_4);
    put32(image, REG_INTMS, s->intms);
    put32(image, REG_INTMC, s->intms);
    put32(image, REG_CC, s->cc);
    put32(image, REG_CSTS, s->csts);
    put32(image, REG_AQA, s->aqa);
    put64(image, REG_ASQ, s->asq);
    put64(image, REG_ACQ, s->acq);
    memset(buf, 0, n);
    if (at < sizeof image)
        memcpy(buf, image + at, n < sizeof image - at ? n : sizeof image - at);
    return 0;
}

/* ---- Enable, reset, shutdown ------------------------------------------------------------------------ */

void controller_fatal(struct ob_device *dev, const char *why)
{
    struct nvme *s = ob_state(dev);

    if (s->csts & CSTS_CFS)
        return;
    SET(dev, s->csts, s->csts | CSTS_CFS);
    ob_trace(dev, "fatal", s->csts, 0);
    ob_error(dev, "the controller stops until its driver resets it: %s", why);
}

static void enable(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    uint32_t sq = (s->aqa & 0xfff) + 1, cq = (s->aqa >> 16 & 0xfff) + 1;

    if (CC_CSS(s->cc) || CC_AMS(s->cc) || CC_MPS(s->cc) > MPS_MAX || sq < 2 || cq < 2 ||
        s->asq % page_size(s) || s->acq % page_size(s)) {
        controller_fatal(dev, "it was enabled with settings that it does not have");
        return;
    }
    if (lock_files(dev) < 0) {
        controller_fatal(dev, "its files are not free");
        return;
    }
    lock_barrier(dev);
    ob_touch(dev, &s->sq[0], sizeof s->sq[0]);
    ob_touch(dev, &s->cq[0], sizeof s->cq[0]);
    s->sq[0] = (struct nvme_sq){ .address = s->asq, .entries = sq };
    s->cq[0] = (struct nvme_cq){ .address = s->acq, .entries = cq, .phase = 1, .interrupts = 1,
                                 .users = 1 };
    doorbell_new_sq(dev, 0);
    doorbell_new_cq(dev, 0);
    SET(dev, s->csts, (s->csts & CSTS_NSSRO) | CSTS_RDY);
    ob_trace(dev, "enabled", s->cc, s->aqa);
}

/* What this process knows beside the state follows in work_committed(): a step may yet be undone. */
void controller_clear(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);

    ob_touch(dev, s->sq, sizeof s->sq);
    ob_touch(dev, s->cq, sizeof s->cq);
    ob_touch(dev, s->slot_map, sizeof s->slot_map);
    memset(s->sq, 0, sizeof s->sq);
    memset(s->cq, 0, sizeof s->cq);
    memset(s->slot_map, 0, sizeof s->slot_map);
    SET(dev, s->epoch, s->epoch + 1);
    SET(dev, s->live, 0);
    SET(dev, s->interrupting, 0);
    SET(dev, s->cc, s->cc & ~CC_EN);
    SET(dev, s->csts, s->csts & CSTS_NSSRO);
    SET(dev, s->intms, 0);
    SET(dev, s->resetting, 0);
    SET(dev, s->shutting, 0);
    SET(dev, s->shadow, 0);
    SET(dev, s->event_pending, 0);
    SET(dev, s->event_masked, 0);
    SET(dev, s->event_count, 0);
    if (s->subsystem_reset) {
        SET(dev, s->subsystem_reset, 0);
        SET(dev, s->cc, 0);
        SET(dev, s->csts, CSTS_NSSRO);
    }
    far_clear(dev);
    feature_reset(dev);
    ob_timer_cancel(dev, TIMER_COALESCE);
    irq_level(dev);
}

/* CC.EN 1 to 0: CSTS.RDY stays until the files are left alone. */
static void begin_reset(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);

    SET(dev, s->resetting, 1);
    SET(dev, s->cc, s->cc & ~CC_EN);
}

void controller_settle(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (s->resetting && p->outstanding == 0 && !far_is_moving(s))
        controller_clear(dev);
    if (s->shutting && p->flushed) {
        SET(dev, s->shutting, 0);
        SET(dev, s->csts, (s->csts & ~CSTS_SHST) | CSTS_SHST_COMPLETE);
    }
    p->flushed = false;
}

static void begin_shutdown(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);

    if (s->shutting || (s->csts & CSTS_SHST))
        return;
    SET(dev, s->shutting, 1);
    SET(dev, s->csts, s->csts | CSTS_SHST_OCCURRING);
}

static void write_cc(struct ob_device *dev, uint32_t value)
{
    struct nvme *s = ob_state(dev);
    bool was = s->cc & CC_EN, is = value & CC_EN;

    value &= CC_ALL;
    if (s->resetting)
        return; /* a driver waits for CSTS.RDY before it goes on */
    if (was && is)
        value = (value & CC_LATER) | (s->cc & ~CC_LATER);
    SET(dev, s->cc, value);
    if (CC_SHN(value))
        begin_shutdown(dev);
    if (!was && is)
        enable(dev);
    else if (was && !is)
        begin_reset(dev);
    work_soon(dev);
}

static void write_nssr(struct ob_device *dev, uint32_t value)
{
    struct nvme *s = ob_state(dev);

    if (value != NSSR_RESET)
        return;
    SET(dev, s->subsystem_reset, 1);
    begin_reset(dev);
    work_soon(dev);
}

/* ---- Writing --------------------------------------------------------------------------------------- */

static void write32(struct ob_device *dev, uint64_t at, uint32_t v)
{
    struct nvme *s = ob_state(dev);
    bool enabled = s->cc & CC_EN;

    switch (at) {
    case REG_INTMS: SET(dev, s->intms, s->intms | v); irq_level(dev); break;
    case REG_INTMC: SET(dev, s->intms, s->intms & ~v); irq_level(dev); break;
    case REG_CC: write_cc(dev, v); break;
    case REG_CSTS:
        if (v & CSTS_NSSRO)
            SET(dev, s->csts, s->csts & ~CSTS_NSSRO);
        break;
    case REG_NSSR: write_nssr(dev, v); break;
    case REG_AQA:
        if (!enabled)
            SET(dev, s->aqa, v & 0x0fff0fff);
        break;
    case REG_ASQ:
    case REG_ASQ + 4:
    case REG_ACQ:
    case REG_ACQ + 4: {
        uint64_t *reg = at < REG_ACQ ? &s->asq : &s->acq;
        unsigned shift = at & 4 ? 32 : 0;
        if (!enabled)
            SET(dev, *reg, (*reg & ~(0xffffffffull << shift)) |
                               ((uint64_t)v << shift & ~0xfffull));
        break;
    }
    default:
        if (at >= REG_DOORBELLS)
            doorbell_write(dev, at - REG_DOORBELLS, v);
        break;
    }
}

int registers_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    const uint8_t *bytes = buf;
    uint32_t v;

    /* The specification knows accesses of 4 and 8 bytes, aligned; nothing happens at others. */
    if (n % 4 || at % 4)
        return 0;
    for (size_t i = 0; i < n; i += 4) {
        memcpy(&v, bytes + i, 4);
        write32(dev, at + i, le32toh(v));
    }
    return 0;
}
