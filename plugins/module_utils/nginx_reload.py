# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reload a running nginx, and prove that it happened."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import FrozenSet, Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.proc_stat import (
    parse_parent,
    read_stats,
)

_POLL_S = 0.02
_TAIL_LINES = 20


def find_master(pid_file: Path, proc: Path) -> Optional[int]:
    """Return the PID of nginx's master, or None if it does not run.

    ``nginx -t`` leaves an empty PID file behind where there was none, and a
    killed nginx an old one, so the process itself is asked for its name.
    """
    try:
        pid = int(pid_file.read_text())
        name = (proc / str(pid) / "comm").read_text().strip()
    except (OSError, ValueError):
        return None
    return pid if name == "nginx" else None


def find_children(parent: int, proc: Path) -> FrozenSet[int]:
    stats = read_stats(proc)
    return frozenset(pid for pid, stat in stats if parse_parent(stat) == parent)


class ErrorLog:
    """What nginx writes to its error log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start_bytes = path.stat().st_size if path.exists() else 0

    def tail(self) -> str:
        """Return the last lines written since this object was made."""
        try:
            with self._path.open("rb") as log:
                rotated = os.fstat(log.fileno()).st_size < self._start_bytes
                log.seek(0 if rotated else self._start_bytes)
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError as error:
            return "(unreadable: {0})".format(error)
        return "\n".join(lines[-_TAIL_LINES:]) or "(nothing)"


def reload_workers(master: int, timeout_s: int, error_log: Path, proc: Path) -> float:
    """Ask the master to reload; return the seconds until a new worker ran.

    Old workers may serve on for as long as their connections last, so only the
    arrival of a new one counts. Raises KeepaliveError after ``timeout_s``.
    """
    before = find_children(master, proc)
    log = ErrorLog(error_log)
    started = time.monotonic()
    try:
        os.kill(master, signal.SIGHUP)
    except OSError as error:
        raise KeepaliveError(
            "cannot signal nginx's master (pid {0}): {1}".format(master, error)
        ) from error
    while not find_children(master, proc) - before:
        if time.monotonic() - started >= timeout_s:
            raise KeepaliveError(
                "nginx started no new worker within {0} s of the reload "
                "(reload_timeout_s); it wrote to {1}:\n{2}".format(
                    timeout_s, error_log, log.tail()
                )
            )
        time.sleep(_POLL_S)
    return time.monotonic() - started
