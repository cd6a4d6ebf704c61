/*
 * test_vm.c - the description of a VM, and the command lines made from it.
 */
#include "vm/command.h"
#include "vm/qemu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char why[VM_WHY_SIZE];
static struct vm vm;

static int set_up(void **state)
{
    (void)state;
    memset(&vm, 0, sizeof(vm));
    strcpy(vm.name, "test");
    vm.memory = 512u << 20;
    vm.cpus = 2;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    vm_free(&vm);
    return 0;
}

static const struct vm_device *add(const char *text)
{
    assert_int_equal(vm_add_device(&vm, text, why), 0);
    return &vm.devices[vm.devices_count - 1];
}

/* The words with a space between them, in a static buffer. */
static const char *joined(struct argv *argv)
{
    static char text[4096];
    assert_false(argv->failed);
    text[0] = '\0';
    for (size_t i = 0; i < argv->count; i++) {
        if (i)
            strcat(text, " ");
        assert_true(strlen(text) + strlen(argv->word[i]) + 2 < sizeof(text));
        strcat(text, argv->word[i]);
    }
    assert_null(argv->word[argv->count]);
    argv_free(argv);
    return text;
}

static const char *qemu(void)
{
    struct argv argv = { 0 };
    vm_qemu_command(&vm, "qemu", "tcg", "/run/x", &argv);
    return joined(&argv);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in: %s", part, text);
}

/* ---- Devices -------------------------------------------------------------------------------- */

static void test_device(void **state)
{
    (void)state;
    const struct vm_device *d =
        add("nvme,file=/a,,b=c,id=disk,bootindex=1,addr=0x5.0,file=/d,lba=512");
    assert_string_equal(d->kind, "nvme");
    assert_string_equal(d->id, "disk");
    assert_int_equal(d->bootindex, 1);
    assert_string_equal(d->addr, "0x5.0");
    assert_int_equal(d->params.count, 3);
    assert_string_equal(d->params.word[0], "file=/a,b=c");
    assert_string_equal(d->params.word[1], "file=/d");
    assert_string_equal(d->params.word[2], "lba=512");
    assert_false(d->takes_terminal);
    assert_true(add("serial,path=-")->takes_terminal);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(add("edu")->id, "edu0");
    assert_string_equal(add("serial")->id, "serial0");
    assert_string_equal(add("edu,id=edu2")->id, "edu2");
    assert_string_equal(add("edu")->id, "edu1");
    assert_string_equal(add("edu")->id, "edu3");
    assert_string_equal(add("./mine.so")->id, "mine0");
    assert_int_equal(vm_add_device(&vm, "serial,id=serial0", why), -EINVAL);
    assert_string_equal(why, "id=serial0: another device has this name");

    assert_true(vm_is_name("a"));
    assert_true(vm_is_name("Vm-1.x_y"));
    const char *const bad[] = { "", "1a", "-a", "..", "a/b", "a b", "a,b", "\xc3\xa4" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(vm_is_name(bad[i]));
    char name[VM_NAME_SIZE + 1];
    memset(name, 'a', VM_NAME_SIZE);
    name[VM_NAME_SIZE] = '\0';
    assert_false(vm_is_name(name));
    assert_true(vm_is_name(name + 1));
}

static void test_bad_devices(void **state)
{
    (void)state;
    const char *const bad[] = {
        "", ",", "path=x", "--fd=3", "edu,", "edu,,", "edu,x", "edu,=x", "edu,--fd=3",
        "edu,id=", "edu,id=a/b", "edu,bootindex=", "edu,bootindex=-1", "edu,bootindex=1x",
        "edu,bootindex=99999999999", "/tmp/123.so", "edu,a=b,,,",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        why[0] = '\0';
        int error = vm_add_device(&vm, bad[i], why);
        if (error != -EINVAL || !why[0])
            fail_msg("\"%s\" gave %d, \"%s\"", bad[i], error, why);
    }
    assert_int_equal(vm.devices_count, 0);
    add("serial,path=-");
    assert_int_equal(vm_add_device(&vm, "serial,path=-", why), -EINVAL);
    while (vm.devices_count < VM_MAX_DEVICES)
        add("edu");
    assert_int_equal(vm_add_device(&vm, "edu", why), -E2BIG);
}

/* ---- Command lines -------------------------------------------------------------------------- */

static void test_serve(void **state)
{
    (void)state;
    struct argv argv = { 0 };
    const struct vm_device *d = add("serial,path=/a b,id=con");
    vm_serve_command(d, "/bin/outboard", "/run/x", 7, &argv);
    assert_int_equal(argv.count, 7);
    assert_string_equal(argv.word[3], "path=/a b");
    assert_string_equal(joined(&argv), "/bin/outboard serve serial path=/a b "
                                       "--socket-path=/run/x/con.sock "
                                       "--control-path=/run/x/con.control --ready-fd=7");
    vm_serve_command(d, "outboard", "/run/x", -1, &argv);
    assert_null(strstr(joined(&argv), "ready"));
}

static void test_qemu(void **state)
{
    (void)state;
    vm.kernel = "/k";
    vm.initrd = "/i";
    vm.append = "a b";
    vm.qemu_args = (char *const[]){ "-S" };
    vm.qemu_args_count = 1;
    add("edu,addr=4,bootindex=2");
    add("serial");
    assert_string_equal(
        qemu(),
        "qemu -name test -machine q35,memory-backend=mem -accel tcg -smp 2 -m 512M "
        "-object memory-backend-memfd,id=mem,size=512M,share=on -no-user-config -nodefaults "
        "-display none -serial none -monitor none -kernel /k -initrd /i -append a b "
        "-device pcie-root-port,id=edu0-port,chassis=1,slot=1,addr=4 "
        "-device {\"driver\":\"vfio-user-pci\",\"id\":\"edu0\",\"bus\":\"edu0-port\","
        "\"bootindex\":2,\"socket\":{\"type\":\"unix\",\"path\":\"/run/x/edu0.sock\"}} "
        "-device pcie-root-port,id=serial0-port,chassis=2,slot=2 "
        "-device {\"driver\":\"vfio-user-pci\",\"id\":\"serial0\",\"bus\":\"serial0-port\","
        "\"socket\":{\"type\":\"unix\",\"path\":\"/run/x/serial0.sock\"}} -S");
}

static void test_memory(void **state)
{
    (void)state;
    vm.memory = 5ull << 30;
    assert_has(qemu(), " -m 5G -object memory-backend-memfd,id=mem,size=5G,");
    vm.memory = (5ull << 30) + (1u << 20);
    assert_has(qemu(), " -m 5121M ");
}

static const char *console(const char *device, const char *arg, const char *value)
{
    vm_free(&vm);
    if (device)
        add(device);
    char *args[] = { (char *)(uintptr_t)arg, (char *)(uintptr_t)value };
    vm.qemu_args = args;
    vm.qemu_args_count = !arg ? 0 : value ? 2 : 1;
    return qemu();
}

static void test_console(void **state)
{
    (void)state;
    assert_has(console(NULL, NULL, NULL), "-display none -serial mon:stdio -monitor none");
    assert_has(console("edu", NULL, NULL), "-serial mon:stdio -monitor none");
    assert_has(console("serial,path=pty", NULL, NULL), "-serial none -monitor none");
    assert_has(console("edu,x=-", NULL, NULL), "-serial none -monitor none");
    assert_has(console(NULL, "-monitor", "stdio"), "-serial none -monitor stdio");
    assert_has(console(NULL, "-monitor", "unix:/m"), "-serial mon:stdio -monitor unix:/m");
    assert_has(console(NULL, "-serial", "file:x"), "-display none -monitor none -serial file:x");
    assert_has(console("serial", "--serial", "pty"), "-display none -monitor none");
    assert_string_equal(strstr(console(NULL, "-nographic", NULL), "-no-user-config"),
                        "-no-user-config -nographic");
}

static void test_paths(void **state)
{
    (void)state;
    char dir[108];
    add("edu"); /* /edu0.control takes 13 bytes */
    memset(dir, 'd', sizeof(dir));
    dir[94] = '\0';
    assert_int_equal(vm_check_paths(&vm, dir, why), 0);
    dir[94] = 'd';
    dir[95] = '\0';
    assert_int_equal(vm_check_paths(&vm, dir, why), -ENAMETOOLONG);
    assert_has(why, "longer than a socket's path may be (107 bytes)");
}

/* ---- QEMU ----------------------------------------------------------------------------------- */

static void test_version(void **state)
{
    (void)state;
    unsigned major, minor;
    assert_true(vm_parse_qemu_version("QEMU emulator version 11.1.3 (Debian 1:11.1.3)\n", &major,
                                      &minor));
    assert_true(major == 11 && minor == 1);
    assert_true(vm_parse_qemu_version("warning: x\nQEMU emulator version 7.2.11", &major, &minor));
    assert_true(major == 7 && minor == 2);
    assert_false(vm_parse_qemu_version("", &major, &minor));
    assert_false(vm_parse_qemu_version("QEMU emulator version x.y", &major, &minor));
    assert_false(vm_parse_qemu_version("qemu-img version 11.1.3", &major, &minor));
}

static void test_accelerator(void **state)
{
    (void)state;
    setenv("OUTBOARD_ACCEL", "kvm", 1);
    assert_string_equal(vm_accelerator(why), "kvm");
    setenv("OUTBOARD_ACCEL", "tcg", 1);
    assert_string_equal(vm_accelerator(why), "tcg");
    setenv("OUTBOARD_ACCEL", "hvf", 1);
    assert_null(vm_accelerator(why));
    assert_string_equal(why, "OUTBOARD_ACCEL=hvf: neither kvm nor tcg");
    unsetenv("OUTBOARD_ACCEL");
    assert_string_equal(vm_accelerator(why), vm_kvm_works() ? "kvm" : "tcg");
}

static void test_find(void **state)
{
    (void)state;
    char path[PATH_MAX];
    const char *old = getenv("PATH");
    char *saved = strdup(old ? old : "/usr/bin:/bin");
    assert_non_null(saved);
    setenv("OUTBOARD_QEMU", "/bin/sh", 1);
    assert_int_equal(vm_find_qemu(path, why), 0);
    assert_string_equal(path, "/bin/sh");
    assert_int_equal(vm_check_qemu("/bin/true", why), -ENOEXEC);
    setenv("OUTBOARD_QEMU", "sh", 1);
    setenv("PATH", "/nowhere::/bin", 1);
    assert_int_equal(vm_find_qemu(path, why), 0);
    assert_string_equal(path, "/bin/sh");
    setenv("OUTBOARD_QEMU", "/bin", 1);
    assert_int_equal(vm_find_qemu(path, why), -ENOENT);
    unsetenv("OUTBOARD_QEMU");
    setenv("PATH", "/nowhere", 1);
    assert_int_equal(vm_find_qemu(path, why), -ENOENT);
    assert_string_equal(path, "qemu-system-x86_64");
    setenv("PATH", saved, 1);
    free(saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_device, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_devices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_serve, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_qemu, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_console, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_paths, set_up, tear_down),
        cmocka_unit_test(test_version), cmocka_unit_test(test_accelerator),
        cmocka_unit_test(test_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
