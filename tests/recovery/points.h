/*
 * points.h - the named points of recovery: what it is, and the function (POINT: it returns something, ACT: nothing).
 * meson.build reads the third word of each line here: it is the function that the linker wraps.
 */
#ifndef POINTS_H
#define POINTS_H

#define DEV struct ob_device *dev

/* clang-format off */
#define POINTS \
    /* A successor. */ \
    POINT("asking the keeper", ssize_t, wire_send, (int s, const struct iovec *v, int n, const int *f, unsigned k), (s, v, n, f, k)) \
    POINT("its answer", ssize_t, wire_receive, (int s, void *p, size_t n, struct wire_fds *f), (s, p, n, f)) \
    POINT("counts of the dead", int, keeping_dead, (struct keeping *k, struct effect_counts *c), (k, c)) \
    POINT("adopting the block", int, block_open, (struct block *b, int fd, const struct block_part *p, unsigned n), (b, fd, p, n)) \
    POINT("undoing the open step", bool, step_recover, (struct block *b), (b)) \
    POINT("settling the open effect", enum effect_kind, effect_recover, (struct block *b, const struct effect_counts *c, uint64_t *a, uint64_t *m), (b, c, a, m)) \
    POINT("mapping memory anew", int, dma_recover, (DEV), (dev)) \
    POINT("taking interrupts", int, irq_recover, (DEV), (dev)) \
    POINT("taking the dirty log", int, logging_recover, (DEV), (dev)) \
    POINT("taking the connection", int, server_recover_session, (DEV, enum effect_kind k, uint64_t r), (dev, k, r)) \
    POINT("taking I/O descriptors", int, ioevent_recover, (DEV), (dev)) \
    POINT("taking the twin socket", int, twin_recover, (DEV), (dev)) \
    POINT("owning the effects", int, effect_start, (struct block *b, uint64_t w, int counts), (b, w, counts)) \
    POINT("calling the seats", int, lobby_open, (struct lobby *l, DEV, int door), (l, dev, door)) \
    ACT("resuming", server_resume, (DEV), (dev)) \
    POINT("telling the keeper", int, keeping_ready, (struct keeping *k), (k)) \
    /* A session. */ \
    POINT("attaching", int, server_attach, (DEV, int sock), (dev, sock)) \
    POINT("looking", ssize_t, wire_look, (int s, void *p, size_t n, struct wire_fds *f), (s, p, n, f)) \
    POINT("running", int, dispatch, (DEV, const uint8_t *p, size_t n, struct wire_fds *f), (dev, p, n, f)) \
    ACT("the store of the step", step_commit, (struct block *b, uint32_t run, uint32_t reply), (b, run, reply)) \
    ACT("signalling", irq_flush, (DEV), (dev)) \
    ACT("forgetting interrupts", irq_forget_unused, (DEV), (dev)) \
    ACT("dropping files", dma_drop_files, (DEV), (dev)) \
    POINT("replying or writing", ssize_t, effect_write, (struct block *b, enum effect_kind k, int fd, const void *p, size_t n, uint64_t a), (b, k, fd, p, n, a)) \
    POINT("reading", ssize_t, effect_read, (struct block *b, int fd, void *p, size_t n), (b, fd, p, n)) \
    POINT("taking", ssize_t, wire_take, (int s, size_t n), (s, n)) \
    POINT("knowing a file", int, memory_file_add, (struct memory *m, int fd, uint32_t *f), (m, fd, f)) \
    POINT("mapping", int, memory_map, (struct memory *m, uint32_t id, const struct memory_region *r), (m, id, r)) \
    POINT("unmapping", int64_t, memory_unmap, (struct memory *m, uint64_t a, uint64_t n, uint32_t *f), (m, a, n, f)) \
    ACT("unmapping all", dma_unmap_all, (DEV), (dev)) \
    ACT("ending a session", server_disconnect, (DEV, const char *why), (dev, why)) \
    /* Inside the functions of devices. */ \
    ACT("touching", ob_touch, (DEV, void *p, size_t n), (dev, p, n)) \
    POINT("a device's read", ssize_t, ob_read, (DEV, int fd, void *p, size_t n), (dev, fd, p, n)) \
    POINT("a device's write", ssize_t, ob_write, (DEV, int fd, const void *p, size_t n), (dev, fd, p, n)) \
    POINT("keeping", int, ob_keep, (DEV, unsigned i, int fd), (dev, i, fd)) \
    POINT("accepting a line's client", int, ob_accept, (DEV, unsigned l, int fd, unsigned i), (dev, l, fd, i)) \
    POINT("what was kept", int, ob_kept, (DEV, unsigned i), (dev, i)) \
    POINT("opening a file", int, ob_open, (DEV, const char *key, unsigned i, int flags), (dev, key, i, flags)) \
    POINT("watching", int, ob_watch, (DEV, int fd, uint32_t e, ob_ready_fn *f), (dev, fd, e, f)) \
    ACT("setting a timer", ob_timer_set, (DEV, unsigned i, uint64_t d), (dev, i, d)) \
    ACT("a wire", ob_irq, (DEV, unsigned i, bool level), (dev, i, level)) \
    ACT("a message", ob_message, (DEV, unsigned vector), (dev, vector)) \
    POINT("beginning a DMA read", int, ob_dma_read, (DEV, unsigned s, uint64_t a, void *p, size_t n), (dev, s, a, p, n)) \
    POINT("beginning a DMA write", int, ob_dma_write, (DEV, unsigned s, uint64_t a, const void *p, size_t n), (dev, s, a, p, n)) \
    POINT("reading memory", int, ob_memory_read, (DEV, uint64_t a, void *p, size_t n), (dev, a, p, n)) \
    POINT("writing memory", int, ob_memory_write, (DEV, uint64_t a, const void *p, size_t n), (dev, a, p, n)) \
    POINT("pinning memory", int, ob_memory_get, (DEV, uint64_t a, uint64_t n, unsigned x, struct iovec *v, int k), (dev, a, n, x, v, k)) \
    ACT("unpinning memory", ob_memory_put, (DEV, uint64_t a, uint64_t n, unsigned x), (dev, a, n, x)) \
    /* The disk. */ \
    POINT("nvme: owning its files", int, lock_files, (DEV), (dev)) \
    ACT("nvme: the barrier", lock_barrier, (DEV), (dev)) \
    ACT("nvme: adopting its queues", queue_adopt, (DEV), (dev)) \
    ACT("nvme: fetching", queue_fetch, (DEV), (dev)) \
    ACT("nvme: posting", queue_post_ready, (DEV), (dev)) \
    ACT("nvme: submitting", run_start, (DEV), (dev)) \
    ACT("nvme: reaping", run_reap, (DEV), (dev)) \
    POINT("nvme: a result", uint16_t, run_result, (DEV, uint32_t i), (dev, i)) \
    ACT("nvme: freeing a slot", slot_free, (DEV, uint32_t i), (dev, i)) \
    ACT("nvme: a reset's end", controller_clear, (DEV), (dev))
/* clang-format on */

#endif
