/*
 * escape.c - a plugin that has been taken over: it tries what a sandbox is there to refuse.
 *
 *   BAR 0   0  write: tries number so and so of the list below
 *           4  read: what came of it: 0: it succeeded, or an errno
 *           8  read: how many there are
 *          12  write: whom to attack: the number of its keeper's process...
 *          16  write: ...of another device's worker...
 *          20  write: ...and under which descriptor that one has its block...
 *          24  write: ...and at which address, low half...
 *          28  write: ...and high
 *
 * Without a sandbox what it does is harmless. It has a ring as the NVMe disk makes it.
 */
#include "../../devices/nvme/engine_uring.c"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <mqueue.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct escape {
    uint32_t result;
    uint32_t target[5]; /* registers from 12 on */
};
enum { KEEPER, OTHER, OTHER_FD, ADDRESS_LOW, ADDRESS_HIGH };

#define BLOCK_BEGINS "OTBDBLK1"

struct private {
    struct uring *uring;
    const char *secret;   /* path of a file */
    const char *abstract; /* name of a socket */
    int keeper, other, other_fd;
    uint64_t address;
    int memfd;
};

/* All return what a system call does: less than 0 with errno is a refusal. */
typedef long attempt(const struct private *p);

/* ---- Files ------------------------------------------------------------------------------------------ */

static long open_absolute(const struct private *p) { return open(p->secret, O_RDONLY); }
static long open_relative(const struct private *p) { return open(strrchr(p->secret, '/') + 1, O_RDONLY); }
static long open_root(const struct private *p) { (void)p; return open("/proc/self/root/etc/passwd", O_RDONLY); }
static long open_folder(const struct private *p) { (void)p; return open("/", O_RDONLY | O_DIRECTORY); }
static long open_how(const struct private *p)
{
    uint64_t how[3] = { O_RDONLY, 0, 0 };
    return syscall(SYS_openat2, AT_FDCWD, p->secret, how, sizeof how);
}
static long open_new(const struct private *p)
{
    char path[4200];
    snprintf(path, sizeof path, "%s.new", p->secret);
    return open(path, O_WRONLY | O_CREAT, 0600);
}
static long look_at(const struct private *p) { struct stat st; return stat(p->secret, &st); }
static long change_folder(const struct private *p) { (void)p; return chdir("/"); }
static long make_node(const struct private *p)
{
    char path[4200];
    snprintf(path, sizeof path, "%s.fifo", p->secret);
    return mknod(path, S_IFIFO | 0600, 0);
}
static long cut(const struct private *p) { return truncate(p->secret, 4096); }
static long watch_path(const struct private *p) { return inotify_add_watch(inotify_init(), p->secret, IN_OPEN); }
static long open_by_number(const struct private *p)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/0", p->keeper);
    return open(path, O_RDONLY);
}
static long read_memory_of(const struct private *p)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", p->keeper);
    return open(path, O_RDONLY);
}
static long open_by_memory_file(const struct private *p)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", p->memfd);
    return open(path, O_RDONLY);
}

/* ---- Another device's block ------------------------------------------------------------------------- */

static long is_block(int fd, uint64_t at)
{
    char begins[8];

    if (fd < 0)
        return -1;
    errno = EBADMSG;
    ssize_t n = pread(fd, begins, sizeof begins, (off_t)at);
    int error = errno;
    close(fd);
    errno = error;
    return n == sizeof begins && memcmp(begins, BLOCK_BEGINS, sizeof begins) == 0 ? 0 : -1;
}
static const char *path_of(char path[64], int pid, const char *what, int fd)
{
    snprintf(path, 64, fd < 0 ? "/proc/%d/%s" : "/proc/%d/%s/%d", pid, what, fd);
    return path;
}
static long block_by_descriptor(const struct private *p)
{
    char path[64];
    return is_block(open(path_of(path, p->other, "fd", p->other_fd), O_RDONLY), 0);
}
static long block_by_memory(const struct private *p)
{
    char path[64];
    return is_block(open(path_of(path, p->other, "mem", -1), O_RDONLY), p->address);
}
static long kill_worker(const struct private *p) { return kill(p->other, 0); }

/* ---- Others ----------------------------------------------------------------------------------------- */

static long socket_inet(const struct private *p) { (void)p; return socket(AF_INET, SOCK_STREAM, 0); }
static long socket_unix(const struct private *p) { (void)p; return socket(AF_UNIX, SOCK_STREAM, 0); }
static long socket_netlink(const struct private *p) { (void)p; return socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }
static long socket_vsock(const struct private *p) { (void)p; return socket(AF_VSOCK, SOCK_STREAM, 0); }
/* A pair of datagram sockets can send to a third. */
static long send_abstract(const struct private *p)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    char byte = 0;
    struct iovec iov = { &byte, 1 };
    struct msghdr m = { .msg_name = &a, .msg_iov = &iov, .msg_iovlen = 1 };
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) < 0)
        return -1;
    strncpy(a.sun_path + 1, p->abstract, sizeof a.sun_path - 2);
    m.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(p->abstract));
    return sendmsg(pair[0], &m, 0);
}
static long shared_memory(const struct private *p) { (void)p; return shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600); }
static long message_queue(const struct private *p)
{
    (void)p;
    int q = mq_open("/outboard-escape", O_RDWR | O_CREAT, 0600, NULL);
    if (q >= 0)
        mq_unlink("/outboard-escape");
    return q;
}
static long kill_other(const struct private *p) { return kill(p->keeper, 0); }
static long kill_thread(const struct private *p) { return syscall(SYS_tgkill, p->keeper, p->keeper, 0); }
static long pidfd(const struct private *p) { return syscall(SYS_pidfd_open, p->keeper, 0); }
static long limit_other(const struct private *p)
{
    struct rlimit l;
    return prlimit(p->keeper, RLIMIT_NOFILE, NULL, &l);
}
static long clone_process(const struct private *p)
{
    (void)p;
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
    return pid;
}

/* ---- Itself ----------------------------------------------------------------------------------------- */

static long map_code(const struct private *p)
{
    (void)p;
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? -1 : 0;
}
static long map_file_as_code(const struct private *p)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, p->memfd, 0) == MAP_FAILED ? -1 : 0;
}
static long make_code(const struct private *p)
{
    (void)p;
    void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(m, 4096, PROT_READ | PROT_EXEC);
}
static long be_dumpable(const struct private *p) { (void)p; return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
static long push_keys(const struct private *p)
{
    int n;
    (void)p;
    return ioctl(STDERR_FILENO, FIONREAD, &n); /* as TIOCSTI would, but harmless */
}

/* ---- Those that kill -------------------------------------------------------------------------------- */

static char *const no_words[] = { NULL };
static long run_program(const struct private *p) { (void)p; return execve("/nonexistent", no_words, no_words); }
static long run_file(const struct private *p) { return syscall(SYS_execveat, p->memfd, "", no_words, no_words, AT_EMPTY_PATH); }
static long fork_process(const struct private *p)
{
    (void)p;
    long pid = syscall(SYS_fork);
    if (pid == 0)
        _exit(0);
    return pid;
}
static long trace(const struct private *p)
{
    long ret = ptrace(PTRACE_SEIZE, p->keeper, NULL, NULL);
    if (ret < 0 || ptrace(PTRACE_INTERRUPT, p->keeper, NULL, NULL) < 0)
        return -1;
    waitpid(p->keeper, NULL, __WALL);
    return ptrace(PTRACE_DETACH, p->keeper, NULL, NULL);
}
static long read_other(const struct private *p)
{
    char byte;
    struct iovec here = { &byte, 1 }, there = { (void *)4096, 1 };
    long n = syscall(SYS_process_vm_readv, p->keeper, &here, 1, &there, 1, 0);
    return n < 0 && errno == EFAULT ? 0 : n;
}
static long steal_descriptor(const struct private *p)
{
    int fd = (int)syscall(SYS_pidfd_open, p->keeper, 0);
    return syscall(SYS_pidfd_getfd, fd, 0, 0);
}
static long read_block(const struct private *p)
{
    char begins[8] = "";
    struct iovec here = { begins, 8 }, there = { (void *)(uintptr_t)p->address, 8 };
    if (syscall(SYS_process_vm_readv, p->other, &here, 1, &there, 1, 0) < 0)
        return -1;
    errno = EBADMSG;
    return memcmp(begins, BLOCK_BEGINS, sizeof begins) == 0 ? 0 : -1;
}
static long steal_block(const struct private *p)
{
    int fd = (int)syscall(SYS_pidfd_open, p->other, 0);
    return is_block((int)syscall(SYS_pidfd_getfd, fd, p->other_fd, 0), 0);
}
static long mount_something(const struct private *p) { (void)p; return mount("none", "/nonexistent", "tmpfs", 0, NULL); }
static long unshare_something(const struct private *p) { (void)p; return unshare(CLONE_FS); }
static long enter_namespace(const struct private *p) { (void)p; return setns(-1, 0); }
static long change_root(const struct private *p) { (void)p; return chroot("/"); }
static long open_handle(const struct private *p) { (void)p; return syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0); }
static long another_ring(const struct private *p)
{
    struct io_uring_params params = { 0 };
    (void)p;
    return syscall(SYS_io_uring_setup, 4, &params);
}
static long change_ring(const struct private *p)
{
    return syscall(SYS_io_uring_register, p->uring->ring.ring_fd, IORING_REGISTER_PROBE, NULL, 0);
}
static long load_bpf(const struct private *p) { (void)p; return syscall(SYS_bpf, 0, NULL, 0); }
static long perf(const struct private *p) { (void)p; return syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0); }
static long user_faults(const struct private *p) { (void)p; return syscall(SYS_userfaultfd, 0); }
static long keys(const struct private *p) { (void)p; return syscall(SYS_keyctl, 0, -3, 0); }
static long persona(const struct private *p) { (void)p; return personality(0xffffffff); }
static long be_root(const struct private *p) { (void)p; return setuid(getuid()); }
/* The kernel's other system call tables. */
static long numbers_of_x32(const struct private *p) { (void)p; return syscall(0x40000000 + SYS_getpid); }
static long numbers_of_32_bits(const struct private *p)
{
    long result = 20; /* getpid */
    (void)p;
#ifdef __x86_64__
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
#endif
    return result;
}

/* ---- By the ring ------------------------------------------------------------------------------------ */

static long submit(const struct private *p, struct io_uring_sqe *sqe)
{
    struct io_uring *ring = &p->uring->ring;
    struct io_uring_cqe *cqe;

    io_uring_sqe_set_data(sqe, NULL);
    int ret = io_uring_submit_and_wait(ring, 1);
    if (ret >= 0)
        ret = io_uring_peek_cqe(ring, &cqe);
    if (ret >= 0) {
        ret = cqe->res;
        io_uring_cqe_seen(ring, cqe);
    }
    errno = ret < 0 ? -ret : 0;
    return ret;
}
#define SQE(p) io_uring_get_sqe(&(p)->uring->ring)

static long ring_open(const struct private *p)
{
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_openat(s, AT_FDCWD, p->secret, O_RDONLY, 0);
    return submit(p, s);
}
static long ring_open_how(const struct private *p)
{
    struct open_how how = { .flags = O_RDONLY };
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_openat2(s, AT_FDCWD, p->secret, &how);
    return submit(p, s);
}
static int ring_openat(const struct private *p, const char *path)
{
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_openat(s, AT_FDCWD, path, O_RDONLY, 0);
    return (int)submit(p, s);
}
static long ring_keeper_memory(const struct private *p)
{
    char path[64];
    return ring_openat(p, path_of(path, p->keeper, "mem", -1));
}
static long ring_block_by_descriptor(const struct private *p)
{
    char path[64];
    return is_block(ring_openat(p, path_of(path, p->other, "fd", p->other_fd)), 0);
}
static long ring_block_by_memory(const struct private *p)
{
    char path[64];
    return is_block(ring_openat(p, path_of(path, p->other, "mem", -1)), p->address);
}
static long ring_block_how(const struct private *p)
{
    struct open_how how = { .flags = O_RDONLY };
    struct io_uring_sqe *s = SQE(p);
    char path[64];
    io_uring_prep_openat2(s, AT_FDCWD, path_of(path, p->other, "fd", p->other_fd), &how);
    return is_block((int)submit(p, s), 0);
}
static long ring_socket(const struct private *p)
{
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_rw(45 /* IORING_OP_SOCKET */, s, AF_UNIX, NULL, 0, SOCK_STREAM);
    return submit(p, s);
}
static long ring_connect(const struct private *p)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_connect(s, p->memfd, (struct sockaddr *)&a, sizeof a);
    return submit(p, s);
}
static long ring_send(const struct private *p)
{
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_send(s, p->memfd, "", 1, 0);
    return submit(p, s);
}
static long ring_splice(const struct private *p)
{
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_splice(s, p->memfd, 0, p->memfd, 0, 1, 0);
    return submit(p, s);
}
static long ring_unlink(const struct private *p)
{
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_unlinkat(s, AT_FDCWD, p->secret, 0);
    return submit(p, s);
}
static long ring_statx(const struct private *p)
{
    struct statx x;
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_statx(s, AT_FDCWD, p->secret, 0, STATX_SIZE, &x);
    return submit(p, s);
}
/* That the ring does what it may. */
static long ring_reads(const struct private *p)
{
    char byte;
    struct iovec iov = { &byte, 1 };
    struct io_uring_sqe *s = SQE(p);
    io_uring_prep_readv(s, p->memfd, &iov, 1, 0);
    return submit(p, s);
}

#define TRY(X)                                                                                             \
    X(open_absolute) X(open_relative) X(open_root) X(open_folder) X(open_how) X(open_new) X(look_at)        \
    X(change_folder) X(make_node) X(cut) X(watch_path) X(open_by_number) X(read_memory_of)                  \
    X(open_by_memory_file) X(block_by_descriptor) X(block_by_memory) X(kill_worker) X(socket_inet)         \
    X(socket_unix) X(socket_netlink) X(socket_vsock) X(send_abstract) X(shared_memory) X(message_queue)     \
    X(kill_other) X(kill_thread) X(pidfd) X(limit_other) X(clone_process) X(map_code) X(map_file_as_code)   \
    X(make_code) X(be_dumpable) X(push_keys) X(run_program) X(run_file) X(fork_process) X(trace)            \
    X(read_other) X(steal_descriptor) X(read_block) X(steal_block) X(mount_something)                       \
    X(unshare_something) X(enter_namespace) X(change_root) X(open_handle) X(another_ring) X(change_ring)    \
    X(load_bpf) X(perf) X(user_faults) X(keys) X(persona) X(be_root) X(numbers_of_x32)                      \
    X(numbers_of_32_bits) X(ring_open) X(ring_open_how) X(ring_keeper_memory) X(ring_block_by_descriptor)   \
    X(ring_block_by_memory) X(ring_block_how) X(ring_socket) X(ring_connect) X(ring_send) X(ring_splice)    \
    X(ring_unlink) X(ring_statx) X(ring_reads)

static attempt *const attempts[] = {
#define X(name) name,
    TRY(X)
#undef X
};
#define ATTEMPTS (sizeof attempts / sizeof *attempts)

/* ---- The device ------------------------------------------------------------------------------------- */

static int read_register(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    struct escape *s = ob_state(dev);
    uint32_t value = at == 4 ? s->result : at == 8 ? (uint32_t)ATTEMPTS : 0;

    memcpy(buf, &value, n);
    return 0;
}

static int write_register(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    struct escape *s = ob_state(dev);
    uint32_t value = 0;

    memcpy(&value, buf, n);
    if (at >= 12 && at < 12 + sizeof s->target)
        memcpy((uint8_t *)s->target + at - 12, &value, n);
    if (at != 0 || value >= ATTEMPTS)
        return 0;
    struct private *p = ob_private(dev);
    p->keeper = (int)s->target[KEEPER];
    p->other = (int)s->target[OTHER];
    p->other_fd = (int)s->target[OTHER_FD];
    p->address = (uint64_t)s->target[ADDRESS_HIGH] << 32 | s->target[ADDRESS_LOW];
    long result = attempts[value](p);
    s->result = result < 0 ? (uint32_t)errno : 0;
    return 0;
}

/* One that may do everything: shows that it is the restrictions that refuse. */
static struct uring *free_ring(void)
{
    struct uring *u = calloc(1, sizeof *u);

    if (u && (errno = -io_uring_queue_init(8, &u->ring, 0))) {
        free(u);
        return NULL;
    }
    return u;
}

static int open_escape(struct ob_device *dev)
{
    static const struct ob_syscall ring[] = { OB_SYSCALL(io_uring_enter), OB_SYSCALL_END };
    struct private *p = ob_private(dev);

    p->secret = ob_option(dev, "secret");
    p->abstract = ob_option(dev, "abstract");
    p->memfd = memfd_create("escape", MFD_CLOEXEC);
    if (p->memfd < 0 || ftruncate(p->memfd, 4096) < 0)
        return -errno;
    bool restricted = strcmp(ob_option(dev, "ring"), "restricted") == 0;
    p->uring = restricted ? (struct uring *)uring_open(8) : free_ring();
    if (p->uring && restricted)
        ob_ring_restricted(dev);
    return p->uring ? ob_syscalls(dev, ring) : -errno;
}

static void close_escape(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (p->uring)
        uring_close(&p->uring->engine);
    if (p->memfd > 0)
        close(p->memfd);
}

static const struct ob_option options[] = {
    { "secret", "PATH", "a file to read", NULL, OB_OPTION_REQUIRED },
    { "abstract", "NAME", "a socket to send to", "nobody", 0 },
    { "ring", "restricted|free", "what the ring may do", "restricted", 0 },
    { NULL, NULL, NULL, NULL, 0 },
};

static const struct ob_plugin escape = {
    .name = "escape",
    .summary = "test device that tries to get out",
    .options = options,
    .pci = { .vendor = 0x1234, .device = 0x11fe },
    .bar[0] = { .size = 4096, .widths = OB_WIDTH_4, .read = read_register, .write = write_register },
    .state = { .size = sizeof(struct escape), .version = 1 },
    .private_size = sizeof(struct private),
    .open = open_escape,
    .close = close_escape,
};
OB_PLUGIN(escape)
