/*
 * feature.c - Get Features and Set Features (5.9, 5.21).
 *
 * No feature is saveable: all begin at their default with each reset of the controller. The namespaces
 * have one feature of their own, Error Recovery, whose only effect is that it is remembered.
 */
#include "data.h"

#include <string.h>

#define TEMPERATURE 300u /* kelvin: a disk of files is never hot */
#define OVER 0x157u      /* 70 degrees Celsius */

enum select { CURRENT, DEFAULT, SAVED, SUPPORTED };

uint32_t feature_temperature(void)
{
    return TEMPERATURE;
}

static struct nvme_features defaults(void)
{
    return (struct nvme_features){
        .arbitration = 3, /* bursts of 8 */
        .temperature_over = OVER,
        .write_cache = 1,
    };
}

void feature_reset(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    uint64_t timestamp = s->features.timestamp, time = s->features.timestamp_time;

    ob_touch(dev, &s->features, sizeof s->features);
    s->features = defaults();
    s->features.timestamp = timestamp; /* goes on through resets */
    s->features.timestamp_time = time;
}

/* ---- Get ------------------------------------------------------------------------------------------- */

static bool is_known(uint8_t id)
{
    switch (id) {
    case FEAT_ARBITRATION: case FEAT_POWER: case FEAT_TEMPERATURE: case FEAT_ERROR_RECOVERY:
    case FEAT_WRITE_CACHE: case FEAT_QUEUES: case FEAT_COALESCING: case FEAT_VECTOR:
    case FEAT_ATOMICITY: case FEAT_EVENTS: case FEAT_TIMESTAMP: return true;
    default: return false;
    }
}

static uint16_t check_namespace(const struct private *p, uint8_t id, uint32_t nsid)
{
    if (id != FEAT_ERROR_RECOVERY)
        return 0;
    return nsid == NSID_ALL || (nsid && nsid <= p->namespaces) ? 0 : SC_INVALID_NAMESPACE | SC_DNR;
}

static uint16_t get_timestamp(struct ob_device *dev, const struct nvme_command *c,
                              const struct nvme_features *f)
{
    uint64_t ms = f->timestamp;

    if (f->timestamp_time)
        ms += (ob_now(dev) - f->timestamp_time) / 1000000;
    uint64_t value = (ms & 0xffffffffffffull) | (f->timestamp_time ? 1ull << 49 : 0);
    return data_to_guest(dev, c, &value, sizeof value);
}

uint16_t feature_get(struct ob_device *dev, const struct nvme_command *c, uint32_t *dw0)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint8_t id = c->cdw10 & 0xff;
    enum select select = c->cdw10 >> 8 & 7;
    struct nvme_features standard = defaults();
    const struct nvme_features *f = select == CURRENT ? &s->features : &standard;

    if (!is_known(id) || select > SUPPORTED)
        return SC_INVALID_FIELD | SC_DNR;
    uint16_t status = check_namespace(p, id, c->nsid);
    if (status)
        return status;
    if (select == SUPPORTED) {
        *dw0 = 4u | (id == FEAT_ERROR_RECOVERY ? 2u : 0); /* changeable; of a namespace */
        return 0;
    }
    switch (id) {
    case FEAT_ARBITRATION: *dw0 = f->arbitration; break;
    case FEAT_POWER: *dw0 = f->power; break;
    case FEAT_TEMPERATURE:
        /* Only the composite temperature, there are no other sensors. */
        if (c->cdw11 >> 16 & 15)
            return SC_INVALID_FIELD | SC_DNR;
        *dw0 = c->cdw11 >> 20 & 3 ? f->temperature_under : f->temperature_over;
        break;
    case FEAT_ERROR_RECOVERY: *dw0 = f->error_recovery[c->nsid == NSID_ALL ? 0 : c->nsid - 1]; break;
    case FEAT_WRITE_CACHE: *dw0 = f->write_cache; break;
    case FEAT_QUEUES: *dw0 = (p->queues - 1) << 16 | (p->queues - 1); break;
    case FEAT_COALESCING: *dw0 = f->coalescing; break;
    case FEAT_VECTOR: {
        uint32_t vector = c->cdw11 & 0xffff;
        if (vector >= QUEUES)
            return SC_INVALID_FIELD | SC_DNR;
        *dw0 = vector | (f->vector_uncoalesced[vector / 32] >> vector % 32 & 1) << 16;
        break;
    }
    case FEAT_ATOMICITY: *dw0 = 0; break;
    case FEAT_EVENTS: *dw0 = f->events; break;
    case FEAT_TIMESTAMP: return get_timestamp(dev, c, f);
    default: break;
    }
    return 0;
}

/* ---- Set ------------------------------------------------------------------------------------------- */

static uint16_t set_temperature(struct ob_device *dev, uint32_t v)
{
    struct nvme *s = ob_state(dev);
    uint32_t sensor = v >> 16 & 15, type = v >> 20 & 3;

    if ((sensor && sensor != 15) || type > 1)
        return SC_INVALID_FIELD | SC_DNR;
    SET(dev, *(type ? &s->features.temperature_under : &s->features.temperature_over), v & 0xffff);
    if (TEMPERATURE >= s->features.temperature_over || TEMPERATURE <= s->features.temperature_under)
        event_happened(dev, EVENT_HOT);
    return 0;
}

static uint16_t set_vector(struct ob_device *dev, uint32_t v)
{
    struct nvme *s = ob_state(dev);
    uint32_t vector = v & 0xffff, bit = 1u << vector % 32;

    if (vector >= QUEUES)
        return SC_INVALID_FIELD | SC_DNR;
    uint32_t *word = &s->features.vector_uncoalesced[vector / 32];
    SET(dev, *word, v & 1u << 16 ? *word | bit : *word & ~bit);
    return 0;
}

static uint16_t set_queues(struct ob_device *dev, uint32_t v, uint32_t *dw0)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint32_t sqs = (v & 0xffff) + 1, cqs = (v >> 16) + 1;

    if (sqs > 0xffff || cqs > 0xffff)
        return SC_INVALID_FIELD | SC_DNR;
    if (s->live)
        return 0x00c | SC_DNR; /* Command Sequence Error: queues exist already */
    *dw0 = (p->queues - 1) << 16 | (p->queues - 1);
    return 0;
}

static uint16_t set_timestamp(struct ob_device *dev, const struct nvme_command *c)
{
    struct nvme *s = ob_state(dev);
    uint64_t value = 0;
    uint16_t status = data_from_guest(dev, c, &value, sizeof value);

    if (status)
        return status;
    SET(dev, s->features.timestamp, value & 0xffffffffffffull);
    SET(dev, s->features.timestamp_time, ob_now(dev));
    return 0;
}

static void set_error_recovery(struct ob_device *dev, uint32_t nsid, uint32_t v)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++)
        if (nsid == NSID_ALL || nsid == i + 1)
            SET(dev, s->features.error_recovery[i], v & 0xffff);
}

uint16_t feature_set(struct ob_device *dev, const struct nvme_command *c, uint32_t *dw0)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_features *f = &s->features;
    uint8_t id = c->cdw10 & 0xff;
    uint32_t v = c->cdw11;

    if (!is_known(id))
        return SC_INVALID_FIELD | SC_DNR;
    if (c->cdw10 & 1u << 31)
        return SC_NOT_SAVEABLE | SC_DNR;
    if (id != FEAT_ERROR_RECOVERY && c->nsid && c->nsid != NSID_ALL)
        return c->nsid > p->namespaces ? SC_INVALID_NAMESPACE | SC_DNR : SC_NOT_NAMESPACE | SC_DNR;
    uint16_t status = check_namespace(p, id, c->nsid);
    if (status)
        return status;
    switch (id) {
    case FEAT_ARBITRATION: SET(dev, f->arbitration, v); break;
    case FEAT_POWER:
        if (v & 31)
            return SC_INVALID_FIELD | SC_DNR; /* there is one power state */
        SET(dev, f->power, v & 0xff);
        break;
    case FEAT_TEMPERATURE: return set_temperature(dev, v);
    case FEAT_ERROR_RECOVERY: set_error_recovery(dev, c->nsid, v); break;
    case FEAT_WRITE_CACHE: SET(dev, f->write_cache, v & 1); break;
    case FEAT_QUEUES: return set_queues(dev, v, dw0);
    case FEAT_COALESCING: SET(dev, f->coalescing, v & 0xffff); break;
    case FEAT_VECTOR: return set_vector(dev, v);
    case FEAT_ATOMICITY: break;
    case FEAT_EVENTS: SET(dev, f->events, v); break;
    case FEAT_TIMESTAMP: return set_timestamp(dev, c);
    default: break;
    }
    return 0;
}
