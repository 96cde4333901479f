# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc tells of one process."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Tuple, TypeVar

from ansible_collections.keepalive.fastapi.plugins.module_utils.proc_stat import (
    parse_fields,
)

_STARTTIME = 19
# The boot's time is known to the second, so a start may seem a second early.
_CLOCK_S = 2
Found = TypeVar("Found")


@dataclass(frozen=True)
class Process:
    """One process; ``started_at_s`` is in seconds since the epoch."""

    pid: int
    argv: Tuple[str, ...]
    exe: str
    cwd: str
    environ: Mapping[str, str]
    uid: int
    gid: int
    groups: Tuple[int, ...]
    unit: str
    nofile: int
    started_at_s: float


def unit_of(cgroup: str) -> str:
    """Return the service that /proc/PID/cgroup names; '' for none.

    A session's programs are in their user's manager, whose limits are not theirs.
    """
    for line in cgroup.splitlines():
        _id, controllers, path = line.split(":", 2)
        services = [name for name in path.split("/") if name.endswith(".service")]
        if controllers not in ("", "name=systemd") or not services:
            continue
        return "" if services[0].startswith("user@") else services[-1]
    return ""


def soft_nofile(limits: str) -> int:
    """Return how many files /proc/PID/limits allows; 0 for no limit."""
    found = re.search(r"^Max open files\s+(\d+)", limits, re.MULTILINE)
    return int(found.group(1)) if found else 0


def status_ids(status: str, name: str) -> List[int]:
    """Return the numbers of a line of /proc/PID/status, as of ``Uid``."""
    found = re.search(r"^{0}:(.*)$".format(name), status, re.MULTILINE)
    return [int(word) for word in found.group(1).split()] if found else []


def _parse_environ(text: str) -> Dict[str, str]:
    pairs = (entry.partition("=") for entry in text.split("\0") if "=" in entry)
    return {name: value for name, _equals, value in pairs if name}


def started_at_s(pid: int, proc: Path) -> float:
    """Return when a process started; the boot's time is known to the second."""
    ticks = int(parse_fields(_read(proc / str(pid) / "stat"))[_STARTTIME])
    boot = re.search(r"^btime (\d+)$", _read(proc / "stat"), re.MULTILINE)
    return (int(boot.group(1)) if boot else 0) + ticks / os.sysconf("SC_CLK_TCK")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape")


@contextmanager
def _as_owner(folder: Path) -> Iterator[None]:
    status, group = _read(folder / "status"), os.getegid()
    try:
        os.setegid(status_ids(status, "Gid")[1])
        os.seteuid(status_ids(status, "Uid")[1])
        yield
    finally:
        os.seteuid(os.getuid())
        os.setegid(group)


def look_into(folder: Path, read: Callable[[], Found]) -> Found:
    """Read what /proc shows of a process to its owner and to whoever may trace it.

    Root in a container often may not (CAP_SYS_PTRACE); the owner always may.
    """
    try:
        return read()
    except PermissionError:
        if os.geteuid() != 0:
            raise
        with _as_owner(folder):
            return read()


def read_process(pid: int, proc: Path = Path("/proc")) -> Process:
    """Read a process; OSError if it has ended or is not ours to look into."""
    folder = proc / str(pid)
    status = _read(folder / "status")
    exe, cwd, environ = look_into(
        folder,
        lambda: (
            os.readlink(folder / "exe"),
            os.readlink(folder / "cwd"),
            _read(folder / "environ"),
        ),
    )
    return Process(
        pid=pid,
        argv=tuple(_read(folder / "cmdline").rstrip("\0").split("\0")),
        exe=exe,
        cwd=cwd,
        environ=_parse_environ(environ),
        uid=status_ids(status, "Uid")[1],
        gid=status_ids(status, "Gid")[1],
        groups=tuple(status_ids(status, "Groups")),
        unit=unit_of(_read(folder / "cgroup")),
        nofile=soft_nofile(_read(folder / "limits")),
        started_at_s=started_at_s(pid, proc),
    )


def oldest_start_s(pids: Iterable[int], proc: Path) -> float:
    """Return when the first of the processes started; 0 if none is left."""
    starts = []
    for pid in pids:
        with suppress(OSError):
            starts.append(started_at_s(pid, proc))
    return min(starts, default=0.0)


def is_newer(path: str, since_s: float) -> bool:
    """Tell whether a file was written after a process started."""
    try:
        return os.stat(path).st_mtime > since_s + _CLOCK_S
    except OSError:
        return False
