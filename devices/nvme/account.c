/*
 * account.c - what people are told of the commands of the I/O queues: how many, how large, how long.
 *
 * The clock is looked at once when a step begins to fetch, and once when it has posted. Of commands that one
 * step fetches, executes and posts, which take less than a microsecond each, only every eighth step is timed,
 * and shows the time of the step. A command that outlived its process is counted and not timed.
 */
#include "nvme.h"

#define SAMPLE 8u

static enum ob_account kind_of(uint8_t opcode)
{
    switch (opcode) {
    case NVM_READ: return OB_ACCOUNT_READ;
    case NVM_WRITE: return OB_ACCOUNT_WRITE;
    default: return OB_ACCOUNT_OTHER;
    }
}

void account_began(struct ob_device *dev, uint32_t i)
{
    struct private *p = ob_private(dev);
    p->began[i] = ob_step_time(dev);
}

void account_posted(struct ob_device *dev, uint32_t i, uint16_t status)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    const struct nvme_command *c = &s->slot[i].command;
    enum ob_account kind = kind_of(c->opcode);
    uint64_t bytes = ((c->cdw12 & 0xffff) + 1ull) << p->lba_shift;

    if (!s->slot[i].sq)
        return;
    if (!p->ended)
        p->ended = ob_now(dev);
    ob_account(dev, kind, 1, status || kind == OB_ACCOUNT_OTHER ? 0 : bytes,
               p->began[i] ? p->ended - p->began[i] : 0);
    p->began[i] = 0;
}

void account_begin(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    p->timed = p->steps++ % SAMPLE == 0 ? ob_step_time(dev) : 0;
}

void account_at_once(struct ob_device *dev, uint8_t opcode, uint64_t bytes)
{
    struct private *p = ob_private(dev);
    enum ob_account kind = kind_of(opcode);

    p->at_once[kind].commands++;
    p->at_once[kind].bytes += bytes;
}

void account_end(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    uint64_t ns = 0;

    for (enum ob_account kind = OB_ACCOUNT_READ; kind <= OB_ACCOUNT_WRITE; kind++) {
        struct at_once *a = &p->at_once[kind];
        if (!a->commands)
            continue;
        if (p->timed && !ns)
            ns = ob_now(dev) - p->timed;
        ob_account(dev, kind, a->commands, a->bytes, ns);
        *a = (struct at_once){ 0 };
    }
    p->ended = 0;
}
