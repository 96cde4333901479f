# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a service's processes use."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ansible_collections.keepalive.fastapi.plugins.module_utils.process import (
    look_into,
    unit_of,
)

_PSS_KB = re.compile(r"^(?:Pss|SwapPss): +(\d+) kB$", re.MULTILINE)


def unit_memory_mb(unit: str, proc: Path = Path("/proc")) -> float:
    """Return what a unit's processes use together (in MB, of 1,000,000 bytes).

    It is their proportional set size with what is swapped out, so that what workers
    share counts once, and files in the kernel's cache not at all (proc_pid_smaps(5)).
    """
    kilobytes = 0
    for folder in proc.glob("[0-9]*"):
        # A process may end while it is looked at.
        with suppress(FileNotFoundError, ProcessLookupError):
            if unit_of((folder / "cgroup").read_text(encoding="utf-8")) == unit:
                kilobytes += _pss_kb(folder)
    return kilobytes * 1024 / 1e6


def _pss_kb(folder: Path) -> int:
    rollup = folder / "smaps_rollup"
    text = look_into(folder, lambda: rollup.read_text(encoding="utf-8"))
    return sum(int(number) for number in _PSS_KB.findall(text))
