# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time of groups of processes and of the whole host, from /proc (proc(5))."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Set

from ansible_collections.keepalive.fastapi.plugins.module_utils.proc_stat import (
    parse_fields,
    parse_name,
    parse_parent,
    read_stats,
)

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process: ``cpu_s`` is its own time and that of its ended children."""

    parent: int
    name: str
    cpu_s: float


def read_processes(proc: Path) -> Dict[int, Process]:
    """Return all processes by their ids."""
    found = {}
    for pid, stat in read_stats(proc):
        ticks = sum(int(field) for field in parse_fields(stat)[11:15])
        found[pid] = Process(parse_parent(stat), parse_name(stat), ticks / _TICKS_PER_S)
    return found


def named(processes: Dict[int, Process], name: str) -> Set[int]:
    """Return the ids of the processes of this name."""
    return {pid for pid, process in processes.items() if process.name == name}


def family(processes: Dict[int, Process], root: int) -> Set[int]:
    """Return a process and all that descend from it; empty if it does not exist."""
    found: Set[int] = set()
    new = {root} & processes.keys()
    while new:
        found |= new
        new = {pid for pid, each in processes.items() if each.parent in new} - found
    return found


def cpu_s(processes: Dict[int, Process], pids: Iterable[int]) -> float:
    """Return the CPU time of some of the processes together."""
    return sum(processes[pid].cpu_s for pid in pids)


def steal_s(proc: Path) -> float:
    """Return the time that a hypervisor has kept all CPUs from this host."""
    fields = (proc / "stat").read_text().partition("\n")[0].split()
    return int(fields[8]) / _TICKS_PER_S


def load_1m(proc: Path) -> float:
    """Return the load average of the last minute."""
    return float((proc / "loadavg").read_text().split()[0])
