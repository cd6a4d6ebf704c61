/*
 * test_client_regions.c - what the client makes of a server's description of a region, true or not.
 */
#include "fake_server.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096u

static struct fake fake;

/* struct vfio_region_info_cap_sparse_mmap without the areas. */
struct sparse_head {
    struct vfio_info_cap_header header;
    uint32_t nr_areas;
    uint32_t reserved;
};

static struct ob_client *start(void (*script)(struct fake *), const void *data)
{
    int result;
    struct ob_client *c = ob_client_new();
    assert_non_null(c);
    fake_start(&fake, script, (void *)(uintptr_t)data, c, &result);
    assert_int_equal(result, 0);
    return c;
}

/* ---- A region with everything ------------------------------------------------------------ */

/* A region with a type and two areas, the capabilities linked backwards, over a file. */
struct ordinary {
    struct vfio_region_info info;
    struct sparse_head sparse;
    struct vfio_region_sparse_mmap_area area[2];
    struct vfio_region_info_cap_type type;
};
static const struct ordinary ordinary_region = {
    .info = { .argsz = sizeof(struct ordinary),
              .flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
                       VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS,
              .index = 5,
              .cap_offset = offsetof(struct ordinary, type),
              .size = 8 * PAGE,
              .offset = PAGE },
    .sparse = { .header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1 }, .nr_areas = 2 },
    .area = { { PAGE, PAGE }, { 4 * PAGE, 2 * PAGE } },
    .type = { .header = { .id = VFIO_REGION_INFO_CAP_TYPE,
                          .version = 1,
                          .next = offsetof(struct ordinary, sparse) },
              .type = 0x80001234,
              .subtype = 7 },
};

static void script_regions(struct fake *f)
{
    int fd = memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char *p = NULL;
    uint32_t argsz;

    if (ftruncate(fd, 9 * PAGE) == 0)
        p = mmap(NULL, 9 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
    FAKE_CHECK(f, p && p != MAP_FAILED && fake_version(f, NULL));

    /* First it claims to need more room than it was offered. */
    struct ordinary big = ordinary_region;
    big.info.argsz = 5000;
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_REGION_INFO));
    fake_reply(f, &big, sizeof big.info, &fd, 1);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_REGION_INFO));
    memcpy(&argsz, f->m.body, sizeof argsz);
    FAKE_CHECK(f, argsz == 5000);
    fake_reply(f, &ordinary_region, sizeof ordinary_region, &fd, 1);
    close(fd);

    /* When the client reads, it has written to the file. */
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    FAKE_CHECK(f, strcmp(p + 2 * PAGE, "client") == 0);
    strcpy(p + 5 * PAGE, "server");
    fake_device(f);
    munmap(p, 9 * PAGE);
    FAKE_CHECK(f, !fake_take(f));
}

static void test_ordinary(void **state)
{
    (void)state;
    struct ob_region *r = NULL;
    void *a = NULL, *b = NULL, *none = NULL;
    char x;
    struct ob_client *c = start(script_regions, NULL);

    assert_int_equal(ob_client_region(c, 5, &r), 0);
    assert_int_equal(r->size, 8 * PAGE);
    assert_true(r->has_type && r->type == 0x80001234 && r->subtype == 7);
    assert_true(r->has_areas && r->areas_count == 2 && r->areas[1].offset == 4 * PAGE);
    assert_true(r->fd >= 0 && !r->may_shrink);

    const int rw = PROT_READ | PROT_WRITE;
    assert_int_equal(ob_region_map(r, 0, PAGE, rw, &none), -EINVAL);
    assert_int_equal(ob_region_map(r, PAGE, 2 * PAGE, rw, &none), -EINVAL);
    assert_int_equal(ob_region_map(r, 6 * PAGE, PAGE, rw, &none), -EINVAL);
    assert_int_equal(ob_region_map(r, PAGE + 8, 8, rw, &none), -EINVAL);
    assert_int_equal(ob_region_map(r, PAGE, 0, rw, &none), -EINVAL);
    assert_int_equal(ob_region_map(r, PAGE, PAGE, PROT_READ | PROT_EXEC, &none), -EINVAL);
    assert_int_equal(ob_region_map(r, UINT64_MAX - 8, PAGE, rw, &none), -EINVAL);
    assert_null(none);
    assert_int_equal(ob_region_map(r, PAGE, PAGE, rw, &a), 0);
    assert_int_equal(ob_region_map(r, 4 * PAGE, 2 * PAGE, PROT_READ, &b), 0);
    ob_region_free(r);

    strcpy(a, "client");
    assert_int_equal(ob_client_read(c, 0, 0, &x, 1), 0);
    assert_string_equal(b, "server");
    munmap(a, PAGE);
    munmap(b, 2 * PAGE);
    ob_region_free(NULL);
    fake_stop(&fake, c);
}

/* ---- One descriptor for each area ---------------------------------------------------------- */

static void script_areas(struct fake *f)
{
    int fds[2];

    FAKE_CHECK(f, fake_version(f, NULL) && fake_expect(f, VFIO_USER_DEVICE_GET_REGION_INFO));
    for (int i = 0; i < 2; i++) {
        fds[i] = memfd_create("area", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        FAKE_CHECK(f, ftruncate(fds[i], 9 * PAGE) == 0);
        FAKE_CHECK(f, pwrite(fds[i], i ? "two" : "one", 4, PAGE + (i ? 4 : 1) * PAGE) == 4);
        if (i == 0)
            fcntl(fds[i], F_ADD_SEALS, F_SEAL_SHRINK);
    }
    fake_reply(f, &ordinary_region, sizeof ordinary_region, fds, 2);
    close(fds[0]);
    close(fds[1]);
    FAKE_CHECK(f, !fake_take(f));
}

static void test_areas(void **state)
{
    struct ob_client *c = start(script_areas, NULL);
    struct ob_region *r;
    void *a, *b;
    (void)state;

    assert_int_equal(ob_client_region(c, 5, &r), 0);
    assert_true(r->may_shrink); /* one of them may */
    assert_int_equal(ob_region_map(r, PAGE, PAGE, PROT_READ, &a), 0);
    assert_int_equal(ob_region_map(r, 4 * PAGE, PAGE, PROT_READ, &b), 0);
    assert_string_equal(a, "one");
    assert_string_equal(b, "two");
    munmap(a, PAGE);
    munmap(b, PAGE);
    ob_region_free(r);
    fake_stop(&fake, c);
}

/* ---- Replies that are wrong in one place ------------------------------------------------- */

struct region_reply {
    struct vfio_region_info info;
    struct sparse_head sparse;
    struct vfio_region_sparse_mmap_area area[2];
    struct sparse_head second;
    size_t n;
    unsigned nfds;
};

static const struct region_reply good_region = {
    .info = { .argsz = offsetof(struct region_reply, n),
              .flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_MMAP |
                       VFIO_REGION_INFO_FLAG_CAPS,
              .index = 5,
              .cap_offset = 32,
              .size = 8 * PAGE,
              .offset = PAGE },
    .sparse = { .header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1 }, .nr_areas = 2 },
    .area = { { PAGE, PAGE }, { 4 * PAGE, 2 * PAGE } },
    .n = offsetof(struct region_reply, n),
    .nfds = 1,
};

static void script_region(struct fake *f)
{
    const struct region_reply *r = f->data;
    int fds[64], fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (int i = 0; i < 64; i++)
        fds[i] = fd;
    FAKE_CHECK(f, fake_version(f, NULL));
    while (fake_take(f))
        fake_reply(f, r, r->n, fds, r->nfds);
    close(fd);
}

static void region_reply(const struct region_reply *reply, int expected)
{
    struct ob_region *r;
    struct ob_client *c = start(script_region, reply);
    assert_int_equal(ob_client_region(c, 5, &r), expected);
    assert_true((r != NULL) == (expected == 0));
    ob_region_free(r);
    if (expected == -EBADMSG) { /* and the connection is still good */
        assert_int_equal(ob_client_region(c, 5, &r), expected);
        assert_null(r);
    }
    fake_stop(&fake, c);
}

static void test_region(void **state)
{
    (void)state;
    struct region_reply r = good_region;
    region_reply(&r, 0);
#define REGION(member, value, expected) \
    r = good_region;                    \
    r.member = value;                   \
    region_reply(&r, expected)
    REGION(info.index, 4, -EBADMSG);
    REGION(info.size, 1ull << 63, -EBADMSG);
    REGION(info.offset, UINT64_MAX, -EBADMSG);
    REGION(info.offset, (1ull << 63) - 2 * PAGE, -EBADMSG);
    REGION(info.cap_offset, 31, -EBADMSG);
    REGION(info.cap_offset, 1, -EBADMSG);
    REGION(info.cap_offset, offsetof(struct region_reply, n) - 7, -EBADMSG);
    REGION(info.cap_offset, 0xfffffff8, -EBADMSG);
    REGION(sparse.header.next, 32, -EBADMSG); /* a loop */
    REGION(sparse.header.next, 33, -EBADMSG);
    REGION(sparse.header.id, 99, 0); /* unknown, skipped */
    r.sparse.header.next = 32;
    region_reply(&r, -EBADMSG); /* a loop of it */
    REGION(sparse.nr_areas, 3, -EBADMSG);
    REGION(sparse.nr_areas, 0xffffffff, -EBADMSG);
    REGION(area[1].size, 0, -EBADMSG);
    REGION(area[1].size, 4 * PAGE + 1, -EBADMSG);
    REGION(area[1].size, UINT64_MAX, -EBADMSG);
    REGION(area[1].offset, 8 * PAGE, -EBADMSG);
    REGION(area[1].offset, UINT64_MAX - PAGE, -EBADMSG);
    REGION(n, 31, -EBADMSG);
    REGION(n, 40, -EBADMSG); /* a capability that is cut off */
    REGION(n, 64, -EBADMSG);
    REGION(nfds, 0, -EBADMSG);
    REGION(nfds, 2, 0); /* one for each area */
    REGION(nfds, 3, -EBADMSG);
    REGION(nfds, 16, -EBADMSG);
    REGION(info.argsz, 0xffffffff, -EBADMSG);
    REGION(info.argsz, 4000, 0);                              /* wants more room than it uses */
    REGION(info.flags, VFIO_REGION_INFO_FLAG_READ, -EBADMSG); /* a descriptor all the same */
    r.nfds = 0;
    region_reply(&r, 0);
    r = good_region;
    r.sparse.header.next = offsetof(struct region_reply, second);
    r.second = (struct sparse_head){ .header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP };
    region_reply(&r, -EBADMSG); /* two lists of areas */
}

/* ---- Names ------------------------------------------------------------------------------- */

struct names_reply {
    struct vfio_region_info info;
    struct vfio_user_region_info_cap_platform cap;
    char names[40];
};

/* Names of these bytes; n: of the whole reply. */
static void names_reply(const char *names, size_t names_size, const uint32_t sizes[3], size_t n,
                        int expected)
{
    struct region_reply r = { .n = n };
    struct names_reply reply = {
        .info = { .argsz = sizeof reply,
                  .flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_CAPS,
                  .index = 5,
                  .cap_offset = sizeof reply.info,
                  .size = 8 },
        .cap = { .header = { .id = VFIO_USER_REGION_INFO_CAP_PLATFORM, .version = 1 },
                 .name_size = sizes[0],
                 .compatible_size = sizes[1],
                 .irq_names_size = sizes[2] },
    };
    assert_true(sizeof reply <= offsetof(struct region_reply, n) && names_size <= sizeof reply.names);
    memcpy(reply.names, names, names_size);
    memcpy(&r, &reply, sizeof reply);
    region_reply(&r, expected);
}

static void script_names(struct fake *f)
{
    static const struct names_reply reply = {
        .info = { .argsz = sizeof reply,
                  .flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_CAPS,
                  .cap_offset = sizeof reply.info,
                  .size = 8 },
        .cap = { .header = { .id = VFIO_USER_REGION_INFO_CAP_PLATFORM, .version = 1 },
                 .name_size = 2,
                 .compatible_size = 8,
                 .irq_names_size = 6 },
        .names = "n\0one\0two\0up\0in",
    };
    const struct vfio_user_device_info info = { 16, VFIO_DEVICE_FLAGS_PLATFORM, 1, 1 };

    FAKE_CHECK(f, fake_version(f, NULL));
    while (fake_take(f))
        if (f->m.h.command == VFIO_USER_DEVICE_GET_INFO)
            fake_reply(f, &info, sizeof info, NULL, 0);
        else
            fake_reply(f, &reply, sizeof reply, NULL, 0);
}

static void test_names(void **state)
{
    (void)state;
    struct ob_region *r;
    uint32_t irq = 9;
    unsigned nth = 9;
    struct ob_client *c = start(script_names, NULL);

    assert_int_equal(ob_client_region(c, 0, &r), 0);
    assert_string_equal(r->name, "n");
    assert_int_equal(r->compatible.count, 2);
    assert_string_equal(ob_strings_get(&r->compatible, 1), "two");
    assert_null(ob_strings_get(&r->compatible, 2));
    assert_true(ob_strings_has(&r->compatible, "two", &nth) && nth == 1);
    assert_false(ob_strings_has(&r->compatible, "up", &nth));
    assert_int_equal(r->irq_names.count, 2);
    ob_region_free(r);
    assert_int_equal(ob_client_find_region(c, "n", &r), 0);
    ob_region_free(r);
    assert_int_equal(ob_client_find_region(c, "one", &r), -ENOENT);
    assert_int_equal(ob_client_find_irq(c, "up", &irq), 0);
    assert_int_equal(irq, 0);
    assert_int_equal(ob_client_find_irq(c, "in", &irq), -ENOENT); /* there is but one interrupt */
    fake_stop(&fake, c);

    const size_t n = sizeof(struct names_reply);
    const uint32_t good[3] = { 2, 8, 6 };
    names_reply("n\0one\0two\0up\0in", 16, good, n, 0);
    names_reply("n\0one\0two\0up\0in", 16, (uint32_t[3]){ 0, 2, 0 }, n, 0);
    names_reply("n\0one\0two\0up\0in", 16, (uint32_t[3]){ 2, 0, 6 }, n, -EBADMSG);
    names_reply("n\0one\0two\0up\0in", 16, (uint32_t[3]){ 1, 8, 6 }, n, -EBADMSG);
    names_reply("n\0one\0two\0up\0in", 16, (uint32_t[3]){ 6, 4, 6 }, n, -EBADMSG); /* two names */
    names_reply("n\0one\0two\0up\0in", 16, (uint32_t[3]){ 2, 7, 6 }, n, -EBADMSG);
    names_reply("n\0one\0two\0up\0in", 16, (uint32_t[3]){ 2, 8, 41 - 10 }, n, -EBADMSG);
    names_reply("n\0one\0two\0up\0in", 16, (uint32_t[3]){ 2, 8, UINT32_MAX }, n, -EBADMSG);
    names_reply("n\0one\0two\0up\0in", 16, (uint32_t[3]){ UINT32_MAX, 8, 6 }, n, -EBADMSG);
    names_reply("n\0one\0two\0up\0in", 16, good, n - 40 + 15, -EBADMSG); /* cut off */
    names_reply("n\0one\0two\0up\0in", 16, good, n - 41, -EBADMSG);
    names_reply("\0\0one\0two\0up\0in", 16, good, n, -EBADMSG);
    names_reply("n\0\0ne\0two\0up\0in", 16, good, n, -EBADMSG);
    names_reply("n\0o\033e\0two\0up\0in", 16, good, n, -EBADMSG);
    names_reply("n\0one\0two\0u \0in", 16, good, n, -EBADMSG);
    names_reply("\377\0one\0two\0up\0in", 16, good, n, -EBADMSG);
}

/* More descriptors than a message may have, in one reply to a command that has none. */
static void test_descriptors(void **state)
{
    (void)state;
    struct region_reply r = good_region;
    r.nfds = 60;
    struct ob_region *region;
    struct ob_client *c = start(script_region, &r);
    int ret = ob_client_region(c, 5, &region);
    assert_true(ret == -EMFILE || ret == -EPROTO);
    fake_stop(&fake, c);

    r.nfds = 1;
    c = start(script_region, &r);
    assert_int_equal(ob_client_reset(c), -EBADMSG);
    struct vfio_irq_info irq;
    assert_int_equal(ob_client_irq_info(c, 5, &irq), -EBADMSG);
    fake_stop(&fake, c);

    /* More than we said that we take. */
    int result;
    r.nfds = 2;
    c = ob_client_new();
    ob_client_set_limits(c, 1, 65536);
    fake_start(&fake, script_region, &r, c, &result);
    assert_int_equal(result, 0);
    assert_int_equal(ob_client_region(c, 5, &region), -EPROTO);
    char text[OB_CLIENT_ERROR_SIZE];
    assert_non_null(strstr(ob_client_error(c, text, sizeof text), "more descriptors"));
    assert_int_equal(ob_client_reset(c), -EPROTO);
    fake_stop(&fake, c);
}

/* ---- Files that cannot be mapped as the server says -------------------------------------- */

static void script_file(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    while (fake_take(f))
        fake_reply(f, &good_region, good_region.n, f->data, 1);
}

static void test_map(void **state)
{
    (void)state;
    struct ob_region *r;
    void *p = NULL;
    int pipes[2], memory = memfd_create("short", MFD_CLOEXEC);
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(ftruncate(memory, 6 * PAGE), 0);

    struct ob_client *c = start(script_file, &memory);
    assert_int_equal(ob_client_region(c, 5, &r), 0);
    assert_true(r->may_shrink);
    assert_int_equal(ob_region_map(r, 4 * PAGE, PAGE, PROT_WRITE, &p), -EACCES);
    assert_int_equal(ob_region_map(r, 4 * PAGE, 2 * PAGE, PROT_READ, &p), -EBADMSG);
    assert_int_equal(ob_region_map(r, 5 * PAGE, PAGE, PROT_READ, &p), -EBADMSG);
    assert_null(p);
    assert_int_equal(ob_region_map(r, 4 * PAGE, PAGE, PROT_READ, &p), 0);
    assert_int_equal(*(char *)p, 0);
    munmap(p, PAGE);
    ob_region_free(r);
    fake_stop(&fake, c);

    p = NULL;
    c = start(script_file, &pipes[0]);
    assert_int_equal(ob_client_region(c, 5, &r), 0);
    assert_int_equal(ob_region_map(r, PAGE, PAGE, PROT_READ, &p), -EBADMSG);
    assert_null(p);
    ob_region_free(r);
    fake_stop(&fake, c);
    close(memory);
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ordinary),
        cmocka_unit_test(test_areas),
        cmocka_unit_test(test_region),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_descriptors),
        cmocka_unit_test(test_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
