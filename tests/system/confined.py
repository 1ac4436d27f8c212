"""Runs the command of `docs/petiole.service` as systemd would, as far as a process can do it to itself: its folders,
credentials and environment, as another user, without privileges, with the limits and the filter of system calls.

    python3 confined.py UNIT_FILE ROOT [ARGUMENT]...

The unit's paths are below ROOT. The ARGUMENTs are added to its command.
"""

import ctypes
import errno
import os
import pwd
import resource
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
SCMP_ACT_ALLOW, SCMP_CMP_EQ = 0x7FFF0000, 4
LIMITS = {"LimitCORE": resource.RLIMIT_CORE, "LimitNOFILE": resource.RLIMIT_NOFILE}


def settings(unit):
    """The values of each setting of a unit file, in order."""
    values = {}
    for line in open(unit, encoding="utf-8"):
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            values.setdefault(name, []).append(value)
    return values


def system_calls(group):
    """The system calls of a group such as `@system-service`, as systemd has it."""
    lines = subprocess.check_output(["systemd-analyze", "syscall-filter", group], text=True).splitlines()[1:]
    names = {line.strip() for line in lines if line.strip() and not line.strip().startswith("#")}
    groups = {name for name in names if name.startswith("@")}
    return (names - groups).union(*(system_calls(one) for one in groups))


def allowed(filters):
    """The system calls that `SystemCallFilter=` lines allow: the first line lists allowed ones."""
    calls = set()
    for line in filters:
        denied = line.startswith("~")
        for word in line.lstrip("~").split():
            named = system_calls(word) if word.startswith("@") else {word}
            calls = calls - named if denied else calls | named
    return calls


class Compare(ctypes.Structure):
    """`struct scmp_arg_cmp` of libseccomp."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def filter_system_calls(calls, families):
    """Every other call, and sockets of other families, fail with EPERM."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare),
    ]  # fmt: skip
    context = library.seccomp_init(ctypes.c_uint32(0x00050000 | errno.EPERM))
    for name in calls:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # not one of this machine's
            continue
        rules = [(1, Compare(0, SCMP_CMP_EQ, family, 0)) for family in families] if name == "socket" else [(0, Compare())]
        for count, compare in rules:
            done = library.seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, count, ctypes.byref(compare))
            assert done == 0, (name, done)
    loaded = library.seccomp_load(ctypes.c_void_p(context))
    assert loaded == 0, loaded


def prepare(have, root):
    """Makes the unit's folders and the copies of its credentials. Returns its command and its environment."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    for kind, parent in (("State", "var/lib"), ("Cache", "var/cache")):
        folder = root / parent / have[f"{kind}Directory"][-1]
        folder.mkdir(parents=True)
        folder.chmod(int(have[f"{kind}DirectoryMode"][-1], 8))
        shutil.chown(folder, user.pw_uid, user.pw_gid)
    credentials = root / "run/credentials"
    credentials.mkdir(parents=True)
    for credential in have["LoadCredential"]:
        name, path = credential.split(":")
        copy = credentials / name
        copy.write_bytes((root / path.lstrip("/")).read_bytes())
        copy.chmod(0o400)
        shutil.chown(copy, user.pw_uid, user.pw_gid)
    given = [word.replace("%C", f"{root}/var/cache") for line in have["Environment"] for word in shlex.split(line)]
    environment = dict(word.split("=", 1) for word in given) | {"CREDENTIALS_DIRECTORY": str(credentials)}
    program, *arguments = have["ExecStart"][-1].replace("${CREDENTIALS_DIRECTORY}", str(credentials)).split()
    return [f"{root}{program}", *arguments], environment


def enter_user_namespace(user):
    """Enters one with root and this user only. A container may not let us: then it is left out."""
    ready, tell = os.pipe()
    inside = os.getpid()
    outside = os.fork()
    if outside == 0:
        failed = True
        try:
            os.close(tell)
            if os.read(ready, 1):
                for ids, one in (("uid_map", user.pw_uid), ("gid_map", user.pw_gid)):
                    Path(f"/proc/{inside}/{ids}").write_text(f"0 0 1\n{one} {one} 1\n")
            failed = False
        finally:
            os._exit(failed)
    if ctypes.CDLL(None).unshare(CLONE_NEWUSER) == 0:
        os.write(tell, b".")
    os.close(tell)
    os.close(ready)
    assert os.waitpid(outside, 0)[1] == 0


def confine(have):
    calls = allowed(have["SystemCallFilter"])
    families = [getattr(socket, name) for name in have["RestrictAddressFamilies"][-1].split()]
    for name, limit in LIMITS.items():
        _, most = resource.getrlimit(limit)
        number = int(have[name][-1]) if most == resource.RLIM_INFINITY else min(int(have[name][-1]), most)
        resource.setrlimit(limit, (number, number))
    os.umask(int(have["UMask"][-1], 8))
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        if have["PrivateUsers"] == ["yes"]:
            enter_user_namespace(nobody)
        for capability in range(64):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    filter_system_calls(calls, families)


if __name__ == "__main__":
    have, root = settings(sys.argv[1]), Path(sys.argv[2])
    command, environment = prepare(have, root)
    os.chdir(f"{root}{have['WorkingDirectory'][-1]}")
    confine(have)
    os.execve(command[0], [*command, *sys.argv[3:]], environment)
