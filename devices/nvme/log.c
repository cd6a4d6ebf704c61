/*
 * log.c - Get Log Page (5.14), and the error log that commands leave entries in.
 */
#include "data.h"

#include <endian.h>
#include <string.h>

static void put32(uint8_t *page, unsigned at, uint32_t v)
{
    v = htole32(v);
    memcpy(page + at, &v, sizeof v);
}

static void put64(uint8_t *page, unsigned at, uint64_t v)
{
    v = htole64(v);
    memcpy(page + at, &v, sizeof v);
}

/* ---- Errors (5.14.1.1) ------------------------------------------------------------------------------ */

void log_error(struct ob_device *dev, uint32_t sqid, const struct nvme_command *c, uint16_t status)
{
    struct nvme *s = ob_state(dev);
    uint64_t number = s->counters.errors + 1;
    struct nvme_error *e = &s->error[number % ERRORS];

    ob_trace(dev, "error", status, (uint64_t)sqid << 32 | (uint32_t)c->opcode << 16 | c->cid);
    SET(dev, s->counters.errors, number);
    if ((status & 0x700) == 0x200 && (status & ~SC_DNR) != SC_COMPARE_FAILURE)
        SET(dev, s->counters.media_errors, s->counters.media_errors + 1);
    ob_touch(dev, e, sizeof *e);
    *e = (struct nvme_error){ .number = number, .sq = (uint16_t)sqid, .cid = c->cid,
                              .status = (uint16_t)(status << 1), .location = 0xffff,
                              .nsid = c->nsid };
    if (sqid)
        e->lba = (uint64_t)c->cdw11 << 32 | c->cdw10;
    if ((status & 0x7ff) == SC_INVALID_OPCODE)
        e->location = 0; /* byte 0 of the command */
}

static void errors(const struct nvme *s, uint8_t *page)
{
    for (uint64_t i = 0; i < ERRORS && i < s->counters.errors; i++) {
        const struct nvme_error *e = &s->error[(s->counters.errors - i) % ERRORS];
        uint8_t *at = page + i * 64;
        put64(at, 0, e->number);
        put32(at, 8, (uint32_t)e->sq | (uint32_t)e->cid << 16);
        put32(at, 12, (uint32_t)e->status | (uint32_t)e->location << 16);
        put64(at, 16, e->lba);
        put32(at, 24, e->nsid);
    }
}

/* ---- SMART (5.14.1.2) -------------------------------------------------------------------------------- */

static void smart(struct ob_device *dev, uint8_t *page)
{
    const struct nvme *s = ob_state(dev);
    const struct nvme_counters *n = &s->counters;
    uint32_t t = feature_temperature();

    page[0] = t >= s->features.temperature_over || t <= s->features.temperature_under ? 2 : 0;
    page[1] = (uint8_t)t;
    page[2] = (uint8_t)(t >> 8);
    page[3] = 100; /* available spare, threshold: percent */
    page[4] = 10;
    put64(page, 32, (n->blocks_read + 999) / 1000); /* in thousands of 512 bytes */
    put64(page, 48, (n->blocks_written + 999) / 1000);
    put64(page, 64, n->reads);
    put64(page, 80, n->writes);
    put64(page, 96, n->busy_ns / 60000000000u); /* minutes */
    put64(page, 112, n->power_cycles);
    put64(page, 128, (ob_now(dev) - s->power_on) / 3600000000000u); /* hours */
    put64(page, 144, n->unsafe_shutdowns);
    put64(page, 160, n->media_errors);
    put64(page, 176, n->errors);
}

/* ---- Others ----------------------------------------------------------------------------------------- */

static void firmware(uint8_t *page)
{
    page[0] = 1; /* slot 1 is active */
    memset(page + 8, ' ', 8);
    memcpy(page + 8, FIRMWARE, strlen(FIRMWARE));
}

static void changed(const struct nvme *s, uint8_t *page)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < NAMESPACES; i++)
        if (s->changed[i / 32] & 1u << i % 32)
            put32(page, 4 * n++, i + 1);
}

static void effects(const struct private *p, uint8_t *page)
{
    static const struct {
        uint8_t opcode;
        uint8_t effect; /* CSUPP, LBCC */
    } admin[] = { { ADMIN_DELETE_SQ, 1 },    { ADMIN_CREATE_SQ, 1 },    { ADMIN_GET_LOG, 1 },
                  { ADMIN_DELETE_CQ, 1 },    { ADMIN_CREATE_CQ, 1 },    { ADMIN_IDENTIFY, 1 },
                  { ADMIN_ABORT, 1 },        { ADMIN_SET_FEATURES, 1 }, { ADMIN_GET_FEATURES, 1 },
                  { ADMIN_AER, 1 },          { ADMIN_DOORBELL_BUFFER, 1 } },
      nvm[] = { { NVM_FLUSH, 1 }, { NVM_WRITE, 3 },  { NVM_READ, 1 },   { NVM_COMPARE, 1 },
                { NVM_WRITE_ZEROES, 3 }, { NVM_DSM, 3 }, { NVM_VERIFY, 1 }, { NVM_COPY, 3 } };

    for (unsigned i = 0; i < sizeof admin / sizeof *admin; i++)
        put32(page, 4u * admin[i].opcode, admin[i].effect);
    if (p->mapped)
        put32(page, 4u * ADMIN_DOORBELL_BUFFER, 0);
    for (unsigned i = 0; i < sizeof nvm / sizeof *nvm; i++)
        put32(page, 1024 + 4u * nvm[i].opcode, nvm[i].effect);
}

/* Size of a page, 0: not known. */
static uint32_t fill(struct ob_device *dev, uint8_t id, uint8_t *page)
{
    switch (id) {
    case LOG_ERROR: errors(ob_state(dev), page); return ERRORS * 64;
    case LOG_SMART: smart(dev, page); return 512;
    case LOG_FIRMWARE: firmware(page); return 512;
    case LOG_CHANGED_NAMESPACES: changed(ob_state(dev), page); return 4096;
    case LOG_EFFECTS: effects(ob_private(dev), page); return 4096;
    default: return 0;
    }
}

uint16_t log_page(struct ob_device *dev, const struct nvme_command *c)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint8_t page[ERRORS * 64] = { 0 }, id = c->cdw10 & 0xff;
    uint64_t bytes = (((uint64_t)(c->cdw11 & 0xffff) << 16 | c->cdw10 >> 16) + 1) * 4;
    uint64_t offset = (uint64_t)c->cdw13 << 32 | c->cdw12;
    bool retain = c->cdw10 & 1u << 15;

    if (c->nsid && c->nsid != NSID_ALL && c->nsid > p->namespaces)
        return SC_INVALID_NAMESPACE | SC_DNR;
    /* The controller keeps one SMART log, not one of each namespace. */
    if (id == LOG_SMART && c->nsid && c->nsid != NSID_ALL)
        return SC_INVALID_FIELD | SC_DNR;
    uint32_t size = fill(dev, id, page);
    if (!size)
        return SC_LOG_PAGE | SC_DNR;
    if (offset % 4 || offset > size)
        return SC_INVALID_FIELD | SC_DNR;
    /* What is asked for beyond the page's end is left as it is. */
    if (bytes > size - offset)
        bytes = size - offset;
    uint16_t status = bytes ? data_to_guest(dev, c, page + offset, (uint32_t)bytes) : 0;
    if (status || retain)
        return status;
    event_log_read(dev, id);
    if (id == LOG_CHANGED_NAMESPACES) {
        ob_touch(dev, s->changed, sizeof s->changed);
        memset(s->changed, 0, sizeof s->changed);
    }
    return 0;
}
