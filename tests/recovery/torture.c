/*
 * torture.c - a disk whose worker is killed over and over, under a driver that believes nothing.
 *
 *     torture [-k KILLS] [-s SEED] [-f FOLDER] [-u N [-b PROGRAM]] [-- WORDS for "outboard serve nvme"]
 *
 * The driver keeps 32 commands of all kinds in flight, of 4 KiB to 256 KiB, over ranges that do not
 * overlap, and knows what each block of the disk has to hold. A worker is killed at a random moment, many
 * of them while they take over. With -u, one in N kills comes with an upgrade to the same program, or
 * to that of -b; then they are slower, so that more of those come to something before they are undone. An error, a
 * wrong byte, a completion that nobody waits for or one that does not come ends the program with a line that
 * names the seed. In the end the whole disk is compared, and nobody may hold more descriptors or memory than after
 * a tenth of the kills. The result is a line of JSON.
 */
#include "../nvme/driver.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 32, BLOCK = 4096, MOST = 64, BLOCKS = 256 * MOST, QUEUE = 128, MAX_KILLS = 100000 };

enum kind { READ, WRITE, ZEROES, DEALLOCATE, FLUSH };

struct op {
    bool busy;
    enum kind kind;
    uint16_t cid;
    uint32_t block, count, version;
    uint8_t *data;
    uint64_t address, list_address;
    uint64_t *list;
};

static struct disk disk;
static struct driver driver;
static struct op ops[DEPTH];
static uint32_t version[BLOCKS]; /* 0: zeros */
static bool busy[BLOCKS];
static uint32_t next_version = 1;
static uint64_t seed = 1, random_state;
static uint64_t done, killed_at, first_completion[MAX_KILLS], first_answer[MAX_KILLS];
static unsigned kills, answered, completed;
static char control_path[128];
static unsigned upgrade_each, upgrades, upgraded; /* begun; and those that came to be */
static pid_t upgrader;
static const char *upgrade_to; /* NULL: the same */

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t chance(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % n;
}

static void fail(const char *what, const struct op *o, uint64_t number)
{
    fprintf(stderr, "torture: seed %llu, after %u kills and %llu commands: %s (%llu)", (unsigned long long)seed,
            kills, (unsigned long long)done, what, (unsigned long long)number);
    if (o)
        fprintf(stderr, ": kind %d, block %u, %u blocks", o->kind, o->block, o->count);
    fprintf(stderr, "\n");
    kill(disk.pid, SIGTERM);
    exit(1);
}

/* ---- What a block holds ----------------------------------------------------------------------------- */

static uint64_t word(uint32_t block, uint32_t v, uint32_t i)
{
    return v ? ((uint64_t)block << 40) ^ ((uint64_t)v << 9) ^ i : 0;
}

static void fill(uint8_t *p, uint32_t block, uint32_t v)
{
    uint64_t *w = (uint64_t *)(void *)p;
    for (uint32_t i = 0; i < BLOCK / 8; i++)
        w[i] = word(block, v, i);
}

static bool holds(const uint8_t *p, uint32_t block, uint32_t v)
{
    const uint64_t *w = (const uint64_t *)(const void *)p;
    for (uint32_t i = 0; i < BLOCK / 8; i++)
        if (w[i] != word(block, v, i))
            return false;
    return true;
}

/* ---- Commands --------------------------------------------------------------------------------------- */

static bool take_range(struct op *o)
{
    o->count = (uint32_t)(1 + chance(chance(4) ? 4 : MOST));
    o->block = (uint32_t)chance(BLOCKS - o->count);
    for (uint32_t i = 0; i < o->count; i++)
        if (busy[o->block + i])
            return false;
    for (uint32_t i = 0; i < o->count; i++)
        busy[o->block + i] = true;
    return true;
}

static void prps(const struct op *o, struct nvme_command *c)
{
    c->prp1 = o->address;
    c->prp2 = o->count == 1 ? 0 : o->count == 2 ? o->address + BLOCK : o->list_address;
}

static enum kind choose(void)
{
    uint64_t c = chance(100);
    return c < 45 ? READ : c < 82 ? WRITE : c < 90 ? ZEROES : c < 96 ? DEALLOCATE : FLUSH;
}

static void submit(struct op *o)
{
    struct nvme_command c = { .nsid = 1 };

    o->kind = choose();
    if (o->kind != FLUSH && !take_range(o))
        return;
    c.cdw10 = o->block * (BLOCK / 512);
    c.cdw12 = o->count * (BLOCK / 512) - 1;
    o->version = o->kind == WRITE ? next_version++ : 0;
    switch (o->kind) {
    case READ:
        c.opcode = NVM_READ;
        memset(o->data, 0xee, (size_t)o->count * BLOCK);
        prps(o, &c);
        break;
    case WRITE:
        c.opcode = NVM_WRITE;
        for (uint32_t i = 0; i < o->count; i++)
            fill(o->data + i * BLOCK, o->block + i, o->version);
        c.cdw12 |= chance(10) ? 0 : RW_FUA;
        prps(o, &c);
        break;
    case ZEROES: c.opcode = NVM_WRITE_ZEROES; break;
    case DEALLOCATE: {
        uint32_t *range = (uint32_t *)(void *)o->data;
        range[0] = 0;
        range[1] = o->count * (BLOCK / 512);
        range[2] = o->block * (BLOCK / 512);
        range[3] = 0;
        c = (struct nvme_command){ .opcode = NVM_DSM, .nsid = 1, .prp1 = o->address, .cdw11 = 4 };
        break;
    }
    case FLUSH: c = (struct nvme_command){ .opcode = NVM_FLUSH, .nsid = 1 }; break;
    }
    o->busy = true;
    o->cid = driver_put(&driver, 1, &c);
}

static void finish(struct op *o)
{
    bool changes = o->kind == WRITE || o->kind == ZEROES || o->kind == DEALLOCATE;

    for (uint32_t i = 0; o->kind != FLUSH && i < o->count; i++) {
        uint32_t b = o->block + i;
        if (o->kind == READ && !holds(o->data + i * BLOCK, b, version[b]))
            fail("wrong bytes were read", o, i);
        if (changes)
            version[b] = o->version;
        busy[b] = false;
    }
    o->busy = false;
    done++;
}

static void take(const struct nvme_completion *c)
{
    for (struct op *o = ops; o < ops + DEPTH; o++) {
        if (!o->busy || o->cid != c->cid)
            continue;
        if (driver_status(c))
            fail("a command failed", o, driver_status(c));
        finish(o);
        return;
    }
    fail("a completion that nobody waits for", NULL, c->cid);
}

/* ---- The killer ------------------------------------------------------------------------------------- */

static unsigned descriptors(pid_t pid)
{
    char path[64];
    unsigned n = 0;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

/* KiB by the name that the kernel has for them, of a process (pid) or a part of it. */
static unsigned long memory(pid_t pid, const char *name)
{
    char path[64], line[128];
    unsigned long n = 0;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, name, strlen(name)) == 0)
            n = strtoul(line + strlen(name) + 1, NULL, 10);
    if (f)
        fclose(f);
    return n;
}

/* KiB that the block takes. */
static unsigned long block_size(void)
{
    char path[64], to[64];
    struct stat st;
    unsigned long n = 0;

    for (int fd = 0; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", disk.pid, fd);
        ssize_t length = readlink(path, to, sizeof to - 1);
        to[length < 0 ? 0 : length] = '\0';
        if (strncmp(to, "/memfd:outboard-block", 21) == 0 && stat(path, &st) == 0)
            n += (unsigned long)st.st_blocks / 2;
    }
    return n;
}

/* What keeper and worker have. A worker that has just come, or goes, tells nothing. */
struct usage {
    unsigned keeper_fds, worker_fds;
    unsigned long keeper, keeper_whole, worker, block;
};

static struct usage look_at_usage(void)
{
    pid_t pid = disk_worker(disk.pid);

    return (struct usage){ descriptors(disk.pid), descriptors(pid), memory(disk.pid, "RssAnon:"),
                           memory(disk.pid, "VmRSS:"), memory(pid, "RssAnon:"), block_size() };
}

static void compare_usage(const struct usage *before, const struct usage *after)
{
    if (after->keeper_fds > before->keeper_fds || after->worker_fds > before->worker_fds)
        fail("descriptors are left", NULL, after->keeper_fds + after->worker_fds);
    if (after->keeper > before->keeper + 64)
        fail("the keeper grows: KiB", NULL, after->keeper);
    if (after->worker > 2 * before->worker + 1024)
        fail("workers grow: KiB", NULL, after->worker);
    if (after->block > before->block + 4096)
        fail("the block grows: KiB", NULL, after->block);
}

static bool is_upgrading(void)
{
    int status;

    if (upgrader && waitpid(upgrader, &status, WNOHANG) == upgrader) {
        upgraded += status == 0;
        upgrader = 0;
    }
    return upgrader != 0;
}

/* In the background. If its worker dies in its first second, the old program takes over. */
static void upgrade(void)
{
    if (is_upgrading())
        return;
    upgrades++;
    upgrader = fork();
    if (upgrader == 0) {
        const char *program = getenv("OUTBOARD");
        dup2(STDERR_FILENO, STDOUT_FILENO);
        char binary[512];
        snprintf(binary, sizeof binary, "--binary=%s", upgrade_to);
        execl(program ? program : "build/outboard", "outboard", "upgrade", control_path, upgrade_to ? binary : NULL,
              NULL);
        _exit(127);
    }
}

static void end_upgrades(void)
{
    int status;

    if (upgrader && waitpid(upgrader, &status, 0) == upgrader)
        upgraded += status == 0;
    upgrader = 0;
}

static void kill_worker(void)
{
    static pid_t last;
    pid_t pid = disk_worker(disk.pid);

    if (pid <= 0 || pid == last || kill(pid, SIGKILL) < 0) /* one that is dying already does not count again */
        return;
    last = pid;
    killed_at = now();
    kills++;
    if (chance(4) == 0) { /* how long until a register is read again */
        driver_read32(&driver, REG_CSTS);
        first_answer[answered++] = now() - killed_at;
    }
}

/* Some die soon after they came, some in the middle of their work. Among upgrades to another build: all over those,
 * and now and then one is left alone. */
static uint64_t next_kill(void)
{
    if (upgrade_to)
        return now() + (chance(20) ? chance(120000000) : 1500000000u);
    return now() + (chance(3) ? chance(20000000) : chance(3000000));
}

/* ---- The run ---------------------------------------------------------------------------------------- */

static void collect(void)
{
    struct nvme_completion c;
    bool some = false;

    while (driver_poll(&driver, 1, &c)) {
        if (killed_at) {
            first_completion[completed++] = now() - killed_at;
            killed_at = 0;
        }
        take(&c);
        some = true;
    }
    if (some)
        driver_ring_head(&driver, 1);
}

static unsigned in_flight(void)
{
    unsigned n = 0;
    for (const struct op *o = ops; o < ops + DEPTH; o++)
        n += o->busy;
    return n;
}

static void run_until(unsigned wanted)
{
    uint64_t kill_at = next_kill(), last = now(), before = done;

    while (kills < wanted || in_flight()) {
        unsigned put = 0;
        for (struct op *o = ops; kills < wanted && o < ops + DEPTH; o++)
            if (!o->busy) {
                submit(o);
                put += o->busy;
            }
        if (put)
            driver_ring(&driver, 1);
        collect();
        if (done != before) {
            before = done;
            last = now();
        } else if (now() - last > 20000000000u) {
            fail("commands are lost", NULL, in_flight());
        }
        if (kills < wanted && now() >= kill_at) {
            if (upgrade_each && kills / upgrade_each >= upgrades)
                upgrade();
            else if (upgrades % 4 != 1 || !is_upgrading()) /* one in four is left in peace */
                kill_worker();
            kill_at = next_kill();
        }
    }
}

static void verify_disk(void)
{
    struct op *o = &ops[0]; /* nothing is under way */
    struct nvme_command c = { .opcode = NVM_READ, .nsid = 1, .cdw12 = MOST * (BLOCK / 512) - 1 };

    o->count = MOST;
    prps(o, &c);
    for (o->block = 0; o->block < BLOCKS; o->block += MOST) {
        c.cdw10 = o->block * (BLOCK / 512);
        uint16_t status = driver_do(&driver, 1, &c, NULL);
        if (status)
            fail("the disk cannot be read", NULL, status);
        for (uint32_t i = 0; i < MOST; i++)
            if (!holds(o->data + i * BLOCK, o->block + i, version[o->block + i]))
                fail("the disk holds something else", NULL, o->block + i);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print(const char *name, uint64_t *v, unsigned n, const char *after)
{
    qsort(v, n, sizeof *v, compare);
    printf("\"%s_ms\": {\"median\": %.2f, \"p99\": %.2f, \"worst\": %.2f}%s", name,
           n ? (double)v[n / 2] / 1e6 : 0, n ? (double)v[n - 1 - n / 100] / 1e6 : 0,
           n ? (double)v[n - 1] / 1e6 : 0, after);
}

int main(int argc, char **argv)
{
    const char *folder = "/dev/shm";
    unsigned wanted = 300;
    int o;

    while ((o = getopt(argc, argv, "b:k:s:f:u:")) != -1) {
        switch (o) {
        case 'k': wanted = (unsigned)atoi(optarg); break;
        case 's': seed = strtoull(optarg, NULL, 0); break;
        case 'f': folder = optarg; break;
        case 'b': upgrade_to = optarg; break;
        case 'u': upgrade_each = (unsigned)atoi(optarg); break;
        default: return 2;
        }
    }
    if (wanted == 0 || wanted > MAX_KILLS)
        return 2;
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    const char *words[16] = { NULL };
    unsigned n = 0;
    for (; argv[optind] && n < 14; n++)
        words[n] = argv[optind++];
    char control[160];
    if (upgrade_each) {
        snprintf(control_path, sizeof control_path, "%s/outboard-torture-%d", folder, getpid());
        snprintf(control, sizeof control, "--control-path=%s", control_path);
        words[n] = control;
    }
    disk_serve(&disk, folder, (uint64_t)BLOCKS * BLOCK, words);
    driver_connect(&driver, disk.socket, 64u << 20);
    driver_enable(&driver, 32);
    if (driver_queue(&driver, 1, QUEUE, -1))
        fail("no queue", NULL, 0);
    if (seed % 2)
        driver_shadow(&driver);
    for (struct op *p = ops; p < ops + DEPTH; p++) {
        p->data = driver_alloc(&driver, MOST * BLOCK, BLOCK, &p->address);
        p->list = driver_alloc(&driver, BLOCK, BLOCK, &p->list_address);
        for (unsigned i = 0; i + 1 < MOST; i++)
            p->list[i] = p->address + (i + 1) * BLOCK;
    }
    run_until(wanted / 10);
    end_upgrades();
    verify_disk();
    struct usage before = look_at_usage();
    run_until(wanted);
    end_upgrades();
    verify_disk();
    struct usage after = look_at_usage();
    compare_usage(&before, &after);
    printf("{\"seed\": %llu, \"kills\": %u, \"commands\": %llu, \"upgrades\": %u, \"upgraded\": %u, ",
           (unsigned long long)seed, kills, (unsigned long long)done, upgrades, upgraded);
    printf("\"keeper_kib\": %lu, \"keeper_anonymous_kib\": [%lu, %lu], \"worker_anonymous_kib\": [%lu, %lu], "
           "\"block_kib\": [%lu, %lu], ", after.keeper_whole, before.keeper, after.keeper, before.worker, after.worker,
           before.block, after.block);
    print("first_answer", first_answer, answered, ", ");
    print("first_completion", first_completion, completed, "}\n");
    driver_close(&driver);
    disk_end(&disk);
    return 0;
}
