/*
 * identify.c - the Identify command (5.15): what the controller and its namespaces are.
 */
#include "data.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#define SIZE 4096u

#define CNS_NAMESPACE 0x00
#define CNS_CONTROLLER 0x01
#define CNS_ACTIVE 0x02
#define CNS_DESCRIPTORS 0x03
#define CNS_SET_NAMESPACE 0x05 /* of a command set: revision 2.0, asked for by newer drivers */
#define CNS_SET_CONTROLLER 0x06
#define CNS_ALLOCATED 0x10
#define CNS_ALLOCATED_NAMESPACE 0x11
#define CNS_NAMESPACE_CONTROLLERS 0x12
#define CNS_CONTROLLERS 0x13

static void put16(uint8_t *page, unsigned at, uint16_t v)
{
    v = htole16(v);
    memcpy(page + at, &v, sizeof v);
}

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

/* Text fields are padded with blanks. */
static void put_text(uint8_t *page, unsigned at, unsigned size, const char *text)
{
    size_t n = strlen(text);
    memset(page + at, ' ', size);
    memcpy(page + at, text, n < size ? n : size);
}

/* ---- The controller (figure 247) -------------------------------------------------------------------- */

static void controller(const struct private *p, uint8_t *page)
{
    put16(page, 0, PCI_VENDOR);
    put16(page, 2, PCI_VENDOR);
    put_text(page, 4, 20, p->serial);
    put_text(page, 24, 40, "Outboard NVMe disk");
    put_text(page, 64, 8, FIRMWARE);
    page[72] = 6; /* RAB: bursts of 64 commands are served best */
    page[77] = MDTS;
    put16(page, 78, 1); /* CNTLID */
    put32(page, 80, VERSION_1_4);
    put32(page, 92, 1u << 8); /* OAES: namespace attribute notices */
    page[111] = 1;            /* CNTRLTYPE: I/O controller */
    put16(page, 256, p->mapped ? 0 : 1u << 8); /* OACS: Doorbell Buffer Config */
    page[258] = 3;             /* ACL: 4 aborts */
    page[259] = EVENTS - 1;    /* AERL */
    page[260] = 1u << 1 | 1;   /* FRMW: one slot, read only */
    page[261] = 1u << 1 | 1u << 2; /* LPA: command effects, extended data */
    page[262] = ERRORS - 1;        /* ELPE */
    put16(page, 266, 343);         /* WCTEMP, CCTEMP: kelvin */
    put16(page, 268, 353);
    page[512] = 6 << 4 | 6; /* SQES, CQES */
    page[513] = 4 << 4 | 4;
    put32(page, 516, NAMESPACES); /* NN */
    put16(page, 520, 1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 6 | 1u << 7 | 1u << 8);
    page[525] = 1u << 0 | 3u << 1; /* VWC: there is one, and Flush takes NSID FFFFFFFFh */
    put16(page, 534, 1);           /* OCFS: copy descriptor format 0 */
    put32(page, 536, 1);           /* SGLS: any alignment */
    put32(page, 540, NAMESPACES);  /* MNAN */
    snprintf((char *)page + 768, 256, "nqn.2026-11.io.outboard:nvme:%s", p->serial);
    put16(page, 2048, 2500); /* one power state: 25 W */
}

/* Limits of commands without data (revision 2.0, I/O command set specific controller data). */
static void set_controller(uint8_t *page)
{
    page[2] = 0; /* DMRL, DMRSL, DMSL: all that the command can say */
}

/* ---- Namespaces (figure 245) ------------------------------------------------------------------------ */

static void identifiers(const struct nvme_namespace *ns, uint8_t nguid[16], uint8_t eui64[8])
{
    uint64_t a = htobe64(ns->hash), b = htobe64(ns->hash * 0x9e3779b97f4a7c15u + 1);

    memcpy(nguid, &b, 8);
    memcpy(nguid + 8, &a, 8);
    memcpy(eui64, &a, 8);
}

static void namespace(const struct nvme *s, const struct private *p, uint32_t nsid, uint8_t *page)
{
    const struct nvme_namespace *ns = &p->ns[nsid - 1];

    put64(page, 0, s->blocks[nsid - 1]);  /* NSZE, NCAP, NUSE */
    put64(page, 8, s->blocks[nsid - 1]);
    put64(page, 16, s->blocks[nsid - 1]);
    page[24] = 1u << 4;                   /* NSFEAT: the preferred sizes below are meant */
    page[33] = 1u << 0 | 1u << 3;         /* DLFEAT: deallocated blocks read as zeros; DEAC */
    put16(page, 64, (uint16_t)((4096u >> p->lba_shift) - 1)); /* NPWG, NPWA, NPDG, NPDA */
    put16(page, 66, (uint16_t)((4096u >> p->lba_shift) - 1));
    put16(page, 68, (uint16_t)((4096u >> p->lba_shift) - 1));
    put16(page, 70, (uint16_t)((4096u >> p->lba_shift) - 1));
    put16(page, 74, COPY_RANGE_BLOCKS);   /* MSSRL, MCL, MSRC */
    put32(page, 76, COPY_BLOCKS);
    page[80] = COPY_RANGES - 1;
    page[99] = p->readonly;               /* NSATTR: write protected */
    identifiers(ns, page + 104, page + 120);
    page[128 + 2] = (uint8_t)p->lba_shift; /* LBAF0: LBADS */
}

static void descriptors(const struct private *p, uint32_t nsid, uint8_t *page)
{
    page[0] = 2; /* NGUID */
    page[1] = 16;
    page[20] = 1; /* EUI64 */
    page[21] = 8;
    identifiers(&p->ns[nsid - 1], page + 4, page + 24);
    page[32] = 4; /* CSI: the NVM command set */
    page[33] = 1;
}

static void list(const struct private *p, uint32_t after, uint8_t *page)
{
    unsigned n = 0;

    for (uint32_t nsid = after + 1; nsid <= p->namespaces; nsid++)
        put32(page, 4 * n++, nsid);
}

static void controllers(uint32_t from, uint8_t *page)
{
    if (from > 1)
        return;
    put16(page, 0, 1);
    put16(page, 2, 1);
}

/* ---- The command ------------------------------------------------------------------------------------- */

static uint16_t fill(const struct nvme *s, const struct private *p, const struct nvme_command *c,
                     uint8_t *page)
{
    uint8_t cns = c->cdw10 & 0xff;
    uint32_t nsid = c->nsid;
    bool exists = nsid && nsid <= p->namespaces, may_exist = nsid && nsid <= NAMESPACES;
    const uint16_t no_such = SC_INVALID_NAMESPACE | SC_DNR;

    switch (cns) {
    case CNS_CONTROLLER: controller(p, page); return 0;
    case CNS_ACTIVE:
    case CNS_ALLOCATED:
        if (nsid >= 0xfffffffe)
            return no_such;
        list(p, nsid, page);
        return 0;
    case CNS_CONTROLLERS: controllers(c->cdw10 >> 16, page); return 0;
    case CNS_NAMESPACE_CONTROLLERS:
        if (!exists)
            return no_such;
        controllers(c->cdw10 >> 16, page);
        return 0;
    case CNS_DESCRIPTORS:
        if (!exists)
            return no_such;
        descriptors(p, nsid, page);
        return 0;
    case CNS_SET_CONTROLLER:
    case CNS_SET_NAMESPACE:
        if (c->cdw11 >> 24)
            return SC_INVALID_FIELD | SC_DNR;
        if (cns == CNS_SET_NAMESPACE && !exists)
            return no_such;
        if (cns == CNS_SET_CONTROLLER)
            set_controller(page);
        return 0;
    case CNS_NAMESPACE:
    case CNS_ALLOCATED_NAMESPACE:
        if (exists)
            namespace(s, p, nsid, page);
        else if (cns == CNS_NAMESPACE && nsid == NSID_ALL)
            page[128 + 2] = (uint8_t)p->lba_shift; /* what all namespaces have in common */
        else if (!may_exist)
            return no_such;
        return 0; /* an identifier without a namespace: zeros */
    default: return SC_INVALID_FIELD | SC_DNR;
    }
}

uint16_t identify(struct ob_device *dev, const struct nvme_command *c)
{
    uint8_t page[SIZE] = { 0 };
    uint16_t status = fill(ob_state(dev), ob_private(dev), c, page);

    return status ? status : data_to_guest(dev, c, page, SIZE);
}
