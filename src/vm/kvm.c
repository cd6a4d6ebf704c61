/*
 * kvm.c - does KVM work here?
 *
 * That /dev/kvm opens says little: there are machines, virtual ones mostly, on which guests then
 * hang. So a guest of three instructions is run, in a child that can be killed.
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

enum { PAGE = 4096, PORT = 0x10, TIMEOUT_MS = 2000 };

/* 16-bit code, at guest address 0: mov $0x5a, %al; out %al, $PORT; hlt */
static const uint8_t code[] = { 0xb0, 0x5a, 0xe6, PORT, 0xf4 };

static int make_vcpu(int vm)
{
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -1;
    memcpy(page, code, sizeof(code));
    struct kvm_userspace_memory_region memory = { .memory_size = PAGE,
                                                  .userspace_addr = (uintptr_t)page };
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &memory) < 0)
        return -1;
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    struct kvm_sregs sregs;
    struct kvm_regs regs = { .rip = 0, .rflags = 2 };
    if (vcpu < 0 || ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
        return -1;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
        return -1;
    return vcpu;
}

/* In the child: what it opens and maps goes with it. */
static bool run_guest(void)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
    int size = vm < 0 ? -1 : ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    int vcpu = size < (int)sizeof(struct kvm_run) ? -1 : make_vcpu(vm);
    if (vcpu < 0)
        return false;
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED || ioctl(vcpu, KVM_RUN, 0) < 0)
        return false;
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT)
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
