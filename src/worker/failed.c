/*
 * failed.c - see failed.h.
 */
#include "worker/failed.h"

void failed_plugin(struct ob_plugin *p, const struct ob_plugin *of)
{
    *p = *of;
    p->open = p->start = NULL;
    p->make_threads = NULL;
    p->close = p->irq_changed = p->memory_changed = p->work = p->committed = NULL;
    p->reset = NULL;
    p->timer = NULL;
    p->dma_done = NULL;
    p->pending = NULL;
    p->stop = NULL;
    p->loaded = NULL;
}
