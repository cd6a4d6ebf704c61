/*
 * misbehaviour.h - one way to misbehave, as data, and what the tables of all of them share.
 */
#ifndef MIRROR_MISBEHAVIOUR_H
#define MIRROR_MISBEHAVIOUR_H

#include "mirror/play.h"

/* When: at the first of these commands of the client. */
enum point {
    AT_CONNECT, /* before the client has said anything */
    AT_VERSION,
    AT_INFO,
    AT_REGION_INFO,       /* of the region that can be mapped, with room for its capability */
    AT_OTHER_REGION_INFO, /* of one that cannot */
    AT_IRQ_INFO,          /* of MSI-X */
    AT_SET_IRQS,
    AT_DMA_MAP,
    AT_DMA_UNMAP,
    AT_READ, /* of a register; for the client that reads none, of config space */
    AT_WRITE,
    AT_WRITE_MULTI,
    AT_RESET,
    AT_FEATURE,   /* VFIO_DEVICE_FEATURE_MIGRATION */
    AT_MIG_STATE, /* when the client asks for it */
    AT_LOG_START, /* of dirty pages */
    AT_LOG_REPORT,
    AT_MIG_DATA_READ,
    AT_IO_FDS,
    AT_MAPPED_DMA,   /* AT_READ, while there is a DMA map */
    AT_UNMAPPED_DMA, /* AT_READ, after a DMA map was taken away */
    AT_PIPELINED,    /* a read that comes while another is open */
};

/* What a client has to do about it. Whatever this says: it must not crash, hang, keep descriptors that
 * are not for it, grow without bound, map what is not there, answer what must not be answered. */
enum must {
    MAY_GO_ON,   /* nothing: going on is as good as giving up */
    MUST_NOTICE, /* to notice: a command that ends with status 0 has been fooled */
};

struct misbehaviour {
    const char *id;      /* GROUP.WHAT, or GROUP.WHAT@POINT */
    const char *section; /* of the specification */
    const char *text;    /* what the mirror does */
    enum point point;
    enum must must;
    /*
     * Spoils the proper reply, *r. true: send what is there now, false: it has done all itself. At
     * AT_CONNECT there is no reply to spoil. It says in p->owes when the request gets no reply at
     * all, and takes p->acted back when this is not the moment after all.
     */
    bool (*act)(struct play *p, struct reply *r);
    uint64_t arg;     /* for act */
    const char *json; /* the same */
};

/* A table ends with a row without an id. */
extern const struct misbehaviour misbehaviours_version[], misbehaviours_header[],
    misbehaviours_info[], misbehaviours_descriptor[], misbehaviours_data[], misbehaviours_dma[],
    misbehaviours_pace[], misbehaviours_twin[];

#endif
