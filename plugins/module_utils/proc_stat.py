# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What /proc/PID/stat tells of the processes that run (proc(5))."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, Tuple


def read_stats(proc: Path) -> Iterator[Tuple[int, str]]:
    """Yield the id and the stat line of every process."""
    for folder in proc.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            # A name need not be text in any encoding.
            stat = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue  # it has ended
        yield int(folder.name), stat


def parse_name(stat: str) -> str:
    """Return the name; it stands in parentheses and may hold anything."""
    return stat.partition("(")[2].rpartition(")")[0]


def parse_fields(stat: str) -> List[str]:
    """Return what follows the name, of which the second is the parent's id."""
    return stat.rpartition(")")[2].split()


def parse_parent(stat: str) -> int:
    """Return the parent's id."""
    return int(parse_fields(stat)[1])
