"""Runs a program as on a host that refuses some system calls, with EBADFD, which nothing else gives.

    refusing.py NAME[:FIRST ARGUMENT],... PROGRAM [ARGUMENT...]
"""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {"x86_64": {"capset": 126, "prctl": 157, "close_range": 436},
           "aarch64": {"capset": 91, "prctl": 167, "close_range": 436}}[platform.machine()]
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
ALLOW, REFUSE = 0x7fff0000, 0x00050000 | errno.EBADFD


def program(words):
    code = []
    for word in words:
        name, _, argument = word.partition(":")
        code.append((LOAD, 0, 0, 0))  # seccomp_data.nr, and then args[0]
        code.append((EQUAL, 0, 3 if argument else 1, NUMBERS[name]))
        if argument:
            code += [(LOAD, 0, 0, 16), (EQUAL, 0, 1, int(argument))]
        code.append((RETURN, 0, 0, REFUSE))
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *line) for line in code), len(code)


libc = ctypes.CDLL(None, use_errno=True)
bytes_, count = program(sys.argv[1].split(","))
buffer = ctypes.create_string_buffer(bytes_)
fprog = ctypes.create_string_buffer(struct.pack("@HP", count, ctypes.addressof(buffer)))
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, fprog) < 0:
    sys.exit(f"refusing.py: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[2], sys.argv[2:])
