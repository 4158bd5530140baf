"""Confinement of a process on Linux: no privileges, no network, no other processes, no files but those it is given.

Every layer works without root and is optional: Landlock needs Linux 5.13, the filter of system calls x86-64 or ARM64.
By ctypes, since the libraries for these need compiled parts that no wheel brings.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITIES_V3 = 0x20080522

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR, _WRITE_FILE, _MAKE_REG, _TRUNCATE = 1 << 2, 1 << 3, 1 << 1, 1 << 8, 1 << 14
_FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights over files, by the version of Landlock that knows them."""
_NET_RIGHTS, _SCOPES = 0b11, 0b11

_LD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARG0 = 0, 4, 16
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000


@dataclass(frozen=True, slots=True)
class _Machine:
    """Numbers of system calls of a kind of machine."""

    arch: int
    denied: tuple[int, ...]
    clone: int
    clone3: int = 435


_NEW = (425, 434, 438)
"""io_uring_setup pidfd_open pidfd_getfd: the same on all machines."""
# socket connect bind socketpair · execve execveat · fork vfork · kill tkill · ptrace process_vm_readv process_vm_writev
# · unshare setns mount · add_key request_key keyctl · bpf perf_event_open userfaultfd
_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        (41, 42, 49, 53, 59, 322, 57, 58, 62, 200, 101, 310, 311, 272, 308, 165, 248, 249, 250, 321, 298, 323, *_NEW),
        56,
    ),
    "aarch64": _Machine(
        0xC00000B7,
        (198, 203, 200, 199, 221, 281, 129, 130, 117, 270, 271, 97, 268, 40, 217, 218, 219, 280, 241, 282, *_NEW),
        220,
    ),
}


def confine(read: Iterable[Path], write: Path) -> list[str]:
    """Give up what this process does not need; return the names of the layers that hold.

    It may go on to read files under ``read``, and to read, make and write files under ``write``. There is no way back.
    """
    layers = {
        "no_new_privileges": _set_no_new_privileges,
        "capabilities": _drop_capabilities,
        "landlock": lambda: _restrict_files(read, write),
        "seccomp": _filter_calls,
    }
    return [name for name, apply in layers.items() if apply()]


def _set_no_new_privileges() -> bool:
    return bool(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def _drop_capabilities() -> bool:
    """Drop the capabilities that a process of root has."""
    header = struct.pack("=Ii", _CAPABILITIES_V3, 0)
    return bool(_libc.capset(header, bytes(24)) == 0)


def _restrict_files(read: Iterable[Path], write: Path) -> bool:
    version = _libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    rights = _FS_RIGHTS[min(version, max(_FS_RIGHTS))]
    # handled_access_fs, then handled_access_net from version 4, then scoped (sockets, signals) from version 6
    fields = [rights, *([_NET_RIGHTS] if version >= 4 else ()), *([_SCOPES] if version >= 6 else ())]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    try:
        reading, writing = _READ_FILE | _READ_DIR, _WRITE_FILE | _MAKE_REG | _TRUNCATE
        rules = [*((path, reading) for path in read), (write, (reading | writing) & rights)]
        return all(_allow(ruleset, path, allowed) for path, allowed in rules) and (
            _libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
        )
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> bool:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return bool(_libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0) == 0)
    finally:
        os.close(descriptor)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter_calls() -> bool:
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return False
    program = _program(machine)
    call = _Program(len(program) // 8, program)
    return bool(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(call), 0, 0) == 0)


def _program(machine: _Machine) -> bytes:
    """Return the filter: calls of ``denied`` fail with EPERM; new threads may be, new processes not."""
    tests = [(_JEQ, number) for number in machine.denied]
    if machine.arch == _MACHINES["x86_64"].arch:
        tests.append((_JGE, _X32))
    end = 6  # instructions after the tests, before the one that denies
    denials = [(code, end + len(tests) - 1 - place, 0, value) for place, (code, value) in enumerate(tests)]
    instructions = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, machine.arch),
        (_RET, 0, 0, _KILL),
        (_LD, 0, 0, _NR),
        *denials,
        (_JEQ, 0, 1, machine.clone3),
        (_RET, 0, 0, _ERRNO | errno.ENOSYS),  # its flags are out of sight; the C library then calls clone
        (_JEQ, 0, 2, machine.clone),
        (_LD, 0, 0, _ARG0),
        (_JSET, 0, 1, _CLONE_THREAD),
        (_RET, 0, 0, _ALLOW),
        (_RET, 0, 0, _ERRNO | errno.EPERM),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
