/*
 * kvm.c - does KVM work here?
 *
 * That /dev/kvm opens says little: there are hosts, virtual machines themselves, where a guest's
 * firmware runs and its kernel hangs. Seen on one: ring 0 in 64-bit mode cannot run a breakpoint,
 * which Linux uses to patch itself. So a guest of a few instructions does just this, in a child
 * that can be killed.
 */
#include "vm/qemu.h"
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 0x10, ANSWER = 0x5a, TIMEOUT_MS = 2000 };

/* The guest's memory, by page; virtual and physical addresses are the same. */
enum { PAGE = 4096, CODE = 0, PML4 = 1, PDPT = 2, PD = 3, GDT = 4, IDT = 5, STACK = 6, PAGES = 7 };

/* int3; out %al, $PORT; hlt */
static const uint8_t code[] = { 0xcc, 0xe6, PORT, 0xf4 };
/* mov $ANSWER, %al; iretq */
static const uint8_t handler[] = { 0xb0, ANSWER, 0x48, 0xcf };
enum { HANDLER_AT = 0x100, CODE_SELECTOR = 8 };

static void fill_memory(uint8_t *memory)
{
    const uint64_t present = 3, large = 0x80;
    uint64_t *words = (uint64_t *)memory;
    const size_t page = PAGE / sizeof(*words);
    memcpy(memory, code, sizeof(code));
    memcpy(memory + HANDLER_AT, handler, sizeof(handler));
    words[PML4 * page] = PDPT * PAGE | present;
    words[PDPT * page] = PD * PAGE | present;
    words[PD * page] = present | large;
    words[GDT * page + CODE_SELECTOR / 8] = 0x00af9b000000ffff; /* 64-bit code, ring 0 */
    words[IDT * page + 2 * 3] = 0x00008e0000000000 | (uint64_t)CODE_SELECTOR << 16 | HANDLER_AT;
}

static int enter_long_mode(int vcpu)
{
    struct kvm_sregs sregs;
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
        return -1;
    const struct kvm_segment segment = { .limit = UINT32_MAX, .present = 1, .s = 1, .g = 1 };
    sregs.cs = sregs.ss = segment;
    sregs.cs.type = 11; /* execute and read, accessed */
    sregs.cs.selector = CODE_SELECTOR;
    sregs.cs.l = 1;
    sregs.ss.type = 3; /* read and write, accessed */
    sregs.ss.db = 1;
    sregs.gdt = (struct kvm_dtable){ .base = GDT * PAGE, .limit = 15 };
    sregs.idt = (struct kvm_dtable){ .base = IDT * PAGE, .limit = PAGE - 1 };
    sregs.cr0 = 0x80000011; /* PG, ET, PE */
    sregs.cr3 = PML4 * PAGE;
    sregs.cr4 = 0x20;   /* PAE */
    sregs.efer = 0x500; /* LMA, LME */
    const struct kvm_regs regs = { .rip = 0, .rsp = (STACK + 1) * PAGE, .rflags = 2 };
    return ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 ? -1 : ioctl(vcpu, KVM_SET_REGS, &regs);
}

static int make_vcpu(int kvm, int vm)
{
    /* A header, and room for entries behind it. */
    union {
        struct kvm_cpuid2 head;
        uint8_t bytes[sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)];
    } cpuid = { .head.nent = 256 };
    uint8_t *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                           -1, 0);
    if (memory == MAP_FAILED)
        return -1;
    fill_memory(memory);
    struct kvm_userspace_memory_region region = { .memory_size = PAGES * PAGE,
                                                  .userspace_addr = (uintptr_t)memory };
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return -1;
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0 || ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) < 0 ||
        ioctl(vcpu, KVM_SET_CPUID2, &cpuid) < 0 || enter_long_mode(vcpu) < 0)
        return -1;
    return vcpu;
}

/* In the child: what it opens and maps goes with it. */
static bool run_guest(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    int size = vm < 0 ? -1 : ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    int vcpu = size < (int)sizeof(struct kvm_run) ? -1 : make_vcpu(kvm, vm);
    if (vcpu < 0)
        return false;
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED || ioctl(vcpu, KVM_RUN, 0) < 0)
        return false;
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT ||
        *((uint8_t *)run + run->io.data_offset) != ANSWER)
        return false;
    return ioctl(vcpu, KVM_RUN, 0) == 0 && run->exit_reason == KVM_EXIT_HLT;
}

bool vm_kvm_works(void)
{
    if (access("/dev/kvm", R_OK | W_OK) < 0)
        return false;
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(run_guest() ? 0 : 1);
    }
    if (child < 0)
        return false;
    int status = -1;
    struct pollfd ended = { .fd = (int)syscall(SYS_pidfd_open, child, 0), .events = POLLIN };
    if (ended.fd < 0 || poll(&ended, 1, TIMEOUT_MS) != 1)
        kill(child, SIGKILL);
    if (ended.fd >= 0)
        close(ended.fd);
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
