# A boot sector that loads Linux by the BIOS's own disk reads, so that the firmware's driver does all
# the work: the kernel's real-mode part, the kernel, the initramfs. Whoever makes the disk fills the
# table in at the end of the sector. (The kernel's documentation: the x86 boot protocol.)
        .set    INITRD, 0x8000000

        .code16
        .globl  _start
_start:
        cli
        cld
        ljmp    $0, $1f
1:      xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        sti
        movb    %dl, drive

        # The real-mode part, at most 64 sectors, to 0x10000.
        movl    setup_lba, %eax
        movl    %eax, lba
        movw    setup_sectors, %ax
        movw    $0x1000, segment
        call    read

        # What the kernel wants to know.
        movw    $0x1000, %ax
        movw    %ax, %es
        movb    $0xff, %es:0x210        # type_of_loader: none that has a number
        orb     $0x80, %es:0x211        # heap_end_ptr is there
        movw    $0xde00, %es:0x224
        movl    $INITRD, %es:0x218
        movl    initrd_bytes, %eax
        movl    %eax, %es:0x21c
        movl    $0x1e000, %es:0x228     # the command line
        # The command line: the sector behind this one.
        movl    $1, lba
        movw    $0x1e00, segment
        movw    $1, %ax
        call    read

        movl    kernel_lba, %eax
        movl    kernel_sectors, %ecx
        movl    $0x100000, %edi
        call    load
        movl    lba, %eax               # the initramfs is behind it
        movl    initrd_sectors, %ecx
        movl    $INITRD, %edi
        call    load

        cli
        movw    $0x1000, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %fs
        movw    %ax, %gs
        movw    %ax, %ss
        movw    $0xe000, %sp
        ljmp    $0x1020, $0

# Reads ecx sectors from eax on to the physical address edi, by way of 0x20000.
load:
        movl    %eax, lba
1:      movl    $64, %eax
        cmpl    %eax, %ecx
        jae     2f
        movl    %ecx, %eax
2:      pushl   %eax
        pushl   %ecx
        movw    $0x2000, segment
        call    read
        # The descriptor of the copy's destination.
        movl    %edi, %eax
        movw    %ax, to + 2
        shrl    $16, %eax
        movb    %al, to + 4
        movb    %ah, to + 7
        xorw    %ax, %ax
        movw    %ax, %es
        movw    $gdt, %si
        movw    $0x4000, %cx            # words: 64 sectors
        movb    $0x87, %ah
        int     $0x15
        jc      failed
        popl    %ecx
        popl    %eax
        addl    %eax, lba
        addl    $64 * 512, %edi
        subl    %eax, %ecx
        jnz     1b
        ret

# Reads ax sectors from lba on to segment:0.
read:
        movw    %ax, count
        movw    $packet, %si
        movb    drive, %dl
        movb    $0x42, %ah
        int     $0x13
        jc      failed
        ret

failed:
        movw    $0x3f8, %dx             # the serial port
        movb    $'!', %al
        outb    %al, %dx
        hlt
        jmp     failed

        .balign 4
packet: .byte   16, 0
count:  .word   0
        .word   0
segment:
        .word   0
lba:    .quad   0
gdt:    .quad   0, 0
        .word   0xffff, 0
        .byte   2, 0x93, 0, 0           # from 0x20000
to:     .word   0xffff, 0
        .byte   0, 0x93, 0, 0
        .quad   0, 0
drive:  .byte   0

        .org    488
setup_lba:      .long 2
setup_sectors:  .word 0
kernel_sectors: .long 0                 # behind them
initrd_bytes:   .long 0
initrd_sectors: .long 0
kernel_lba:     .long 0
        .org    510
        .word   0xaa55
