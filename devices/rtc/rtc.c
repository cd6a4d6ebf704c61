/*
 * rtc.c - a real-time clock: ARM's PrimeCell RTC, PL031 (ARM DDI 0224), at an address of its own.
 *
 * A counter of seconds that software may set, and one alarm. The counter is the host's clock plus an
 * offset, which is in the state. So it needs no tick, goes on while no process serves the device, and
 * follows when the host's clock is set.
 *
 * The alarm goes off when the counter becomes equal to the match register; a match that lies behind
 * comes when the counter has gone round. `due` is that moment, by the host's clock. While somebody waits
 * for it a timer does, which looks again every minute: the host's clock may be set meanwhile.
 */
#include <endian.h>
#include <errno.h>
#include <outboard/device.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Registers, 32 bits each: TRM table 3-1. */
enum {
    RTCDR = 0x000,   /* data: the counter */
    RTCMR = 0x004,   /* match */
    RTCLR = 0x008,   /* load */
    RTCCR = 0x00c,   /* control: bit 0 starts the counter, which cannot be stopped */
    RTCIMSC = 0x010, /* interrupt mask set or clear: bit 0 lets the interrupt out */
    RTCRIS = 0x014,  /* raw interrupt status */
    RTCMIS = 0x018,  /* masked interrupt status */
    RTCICR = 0x01c,  /* interrupt clear */
    PERIPH_ID = 0xfe0,
    SIZE = 0x1000,
};

#define SECOND UINT64_C(1000000000)
#define ROUND (SECOND << 32) /* of the counter, in ns */
#define LOOK (60 * SECOND)

struct rtc {
    uint64_t offset; /* what the counter is ahead of the host's clock: ns, below ROUND */
    uint64_t due;    /* when the counter is next equal to the match register: ns since 1970 */
    uint32_t match;
    uint32_t load;
    uint32_t mask;
    uint32_t raw;
};

struct private
{
    bool host;      /* time=host */
    uint32_t start; /* else the counter's value at power-on */
};

static uint64_t host_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

/* ---- The counter and the alarm -------------------------------------------------------------- */

static uint32_t counter(const struct rtc *r, uint64_t now)
{
    return (uint32_t)((now + r->offset) / SECOND);
}

static void set_counter(struct rtc *r, uint64_t now, uint32_t value)
{
    r->offset = (value * SECOND + ROUND - now % ROUND) % ROUND;
}

/* Brings the alarm, its timer and the wire up to date. */
static void settle(struct ob_device *dev, uint64_t now)
{
    struct rtc *r = ob_state(dev);

    if (now >= r->due) {
        r->raw = 1;
        r->due += ROUND;
    }
    uint64_t left = now < r->due ? r->due - now : 0;
    if (r->mask && !r->raw)
        ob_timer_set(dev, 0, ob_now(dev) + (left < LOOK ? left : LOOK));
    else
        ob_timer_cancel(dev, 0);
    ob_irq(dev, 0, r->raw & r->mask);
}

/* The counter or the match register is new: when is the next time that they are equal? */
static void aim(struct ob_device *dev, uint64_t now)
{
    struct rtc *r = ob_state(dev);
    uint64_t into = (now + r->offset) % SECOND;

    r->due = now - into + (uint32_t)(r->match - counter(r, now)) * SECOND;
    settle(dev, now);
}

static void timer(struct ob_device *dev, unsigned id)
{
    (void)id;
    settle(dev, host_now());
}

/* ---- The driver's accesses ------------------------------------------------------------------ */

/* PeriphID0 to 3: part 0x031 of designer 0x41, revision 1; then PCellID0 to 3. */
static const uint8_t id[8] = { 0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1 };

static int read_register(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    struct rtc *r = ob_state(dev);
    uint64_t now = host_now();
    uint32_t value = 0;

    settle(dev, now);
    switch (at) {
    case RTCDR: value = counter(r, now); break;
    case RTCMR: value = r->match; break;
    case RTCLR: value = r->load; break;
    case RTCCR: value = 1; break;
    case RTCIMSC: value = r->mask; break;
    case RTCRIS: value = r->raw; break;
    case RTCMIS: value = r->raw & r->mask; break;
    default: value = at >= PERIPH_ID ? id[(at - PERIPH_ID) / 4] : 0;
    }
    value = htole32(value);
    memcpy(buf, &value, n);
    return 0;
}

/* What cannot be written ignores it, as on the bus that this device is made for. */
static int write_register(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    struct rtc *r = ob_state(dev);
    uint64_t now = host_now();
    uint32_t value;

    memcpy(&value, buf, n);
    value = le32toh(value);
    settle(dev, now);
    switch (at) {
    case RTCMR:
        r->match = value;
        aim(dev, now);
        break;
    case RTCLR:
        r->load = value;
        set_counter(r, now, value);
        aim(dev, now);
        break;
    case RTCIMSC:
        r->mask = value & 1;
        settle(dev, now);
        break;
    case RTCICR:
        r->raw = 0; /* any value clears it (TRM 2.1) */
        settle(dev, now);
        break;
    }
    return 0;
}

/* ---- Life ----------------------------------------------------------------------------------- */

static bool parse_seconds(const char *text, uint32_t *seconds)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    *seconds = (uint32_t)value;
    return *text >= '0' && *text <= '9' && !*end && value <= UINT32_MAX;
}

static int open_rtc(struct ob_device *dev)
{
    struct private *mine = ob_private(dev);
    const char *text = ob_option(dev, "time");

    mine->host = strcmp(text, "host") == 0;
    if (mine->host || parse_seconds(text, &mine->start))
        return 0;
    ob_error(dev, "time=%s: neither host nor seconds since 1970, 0 to 4294967295", text);
    return -EINVAL;
}

static int start(struct ob_device *dev)
{
    settle(dev, host_now());
    return 0;
}

/* The offset is right on a host whose clock is. */
static int loaded(struct ob_device *dev, uint32_t version)
{
    const struct rtc *r = ob_state(dev);
    (void)version;

    if (r->offset < ROUND && r->mask <= 1 && r->raw <= 1)
        return 0;
    ob_error(dev, "offset %llu, mask %u or raw %u is out of range", (unsigned long long)r->offset,
             r->mask, r->raw);
    return -EINVAL;
}

/* The counter goes on, on its battery. */
static void reset(struct ob_device *dev, enum ob_reset kind)
{
    const struct private *mine = ob_private(dev);
    struct rtc *r = ob_state(dev);
    uint64_t now = host_now();

    if (kind == OB_RESET_POWER_ON && !mine->host)
        set_counter(r, now, mine->start);
    r->match = r->load = r->mask = r->raw = 0;
    aim(dev, now);
}

/* ---- What it is ----------------------------------------------------------------------------- */

static const struct ob_option options[] = {
    { "time", "host|SECONDS", "what the clock shows first: the host's time, or seconds since 1970",
      "host", 0 },
    { NULL, NULL, NULL, NULL, 0 },
};

static const char *const compatible[] = { "arm,pl031", "arm,primecell", NULL };
static const struct ob_platform_region regions[] = {
    { .name = "registers",
      .size = SIZE,
      .widths = OB_WIDTH_4,
      .read = read_register,
      .write = write_register },
};
static const struct ob_platform_irq irqs[] = { { .name = "alarm" } };

static const struct ob_field fields[] = {
    OB_INT(struct rtc, offset), OB_INT(struct rtc, due),  OB_INT(struct rtc, match),
    OB_INT(struct rtc, load),   OB_INT(struct rtc, mask), OB_INT(struct rtc, raw),
    OB_END,
};

static const struct ob_plugin rtc = {
    .name = "rtc",
    .summary = "real-time clock: a PL031, no PCI device",
    .options = options,
    .platform = { .compatible = compatible,
                  .regions = regions,
                  .regions_count = 1,
                  .irqs = irqs,
                  .irqs_count = 1 },
    .state = { .size = sizeof(struct rtc), .fields = fields, .version = 1 },
    .private_size = sizeof(struct private),
    .timers = 1,
    .open = open_rtc,
    .start = start,
    .reset = reset,
    .timer = timer,
    .loaded = loaded,
};
OB_PLUGIN(rtc)
