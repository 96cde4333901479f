# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a service's program on its host, and the units that call it.

A recycle by timer stands in for Gunicorn's ``max_requests``, which ends a worker and
with it the connections that nginx keeps to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Dict, List

from ansible_collections.keepalive.fastapi.plugins.module_utils import slots
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.program import (
    BUSY_STATUS,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd

PROGRAM_MODE, UNIT_MODE = 0o755, 0o644
# How often the memory limit is looked at.
MEMORY_INTERVAL_S = 60
_LINE = re.compile(r"[\x20-\x7e]*\Z")

_SERVICE = """\
# Written by keepalive.fastapi.fastapi_upkeep; changes here are lost.
[Unit]
Description=Recycle FastAPI service {name} {why}

[Service]
Type=oneshot
ExecStart={program} recycle{options}
# Another switch is under way, which starts new processes too.
SuccessExitStatus={busy}
"""
_TIMER = """\
# Written by keepalive.fastapi.fastapi_upkeep; changes here are lost.
[Unit]
Description=Recycle FastAPI service {name} {why}

[Timer]
{when}
[Install]
WantedBy=timers.target
"""
# A trial's timer starts it, and so does a boot that finds a trial under way.
_REVERT = """\
# Written by keepalive.fastapi.fastapi_upkeep; changes here are lost.
[Unit]
Description=Take FastAPI service {name} back from a deployment that was not confirmed
ConditionPathExists={trial}
After=nginx.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStart={program} revert --due
# Whatever is in the way, it is tried until the trial has ended.
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Recycling:
    """When a service is recycled by itself: never, unless it is said here.

    ``schedule`` is a calendar event of systemd.time(7), begun up to ``spread_s``
    later; ``memory_mb`` a limit (in MB), looked at each minute, for a slot that has run
    for ``min_age_s``: one that needs more from its start would be recycled for ever.
    """

    schedule: str = ""
    spread_s: int = 0
    memory_mb: int = 0
    min_age_s: int = 0

    def __post_init__(self) -> None:
        if not _LINE.match(self.schedule):
            raise KeepaliveError(
                "recycle_schedule is {0!r}; it must be one line of plain "
                "characters".format(self.schedule)
            )
        for name in ("spread_s", "memory_mb", "min_age_s"):
            if getattr(self, name) < 0:
                raise KeepaliveError(
                    "recycle_{0} is {1}; it must not be below 0".format(
                        name, getattr(self, name)
                    )
                )

    def check_schedule(self, run: Runner) -> None:
        """Raise KeepaliveError if systemd does not understand the schedule."""
        if not self.schedule:
            return
        status, out, err = run(["systemd-analyze", "calendar", "--", self.schedule])
        if status != 0:
            raise KeepaliveError(
                "recycle_schedule is {0!r}, which systemd does not understand as a "
                "calendar event (systemd.time(7)), such as 'daily' or 'Sun 04:00': "
                "{1}".format(self.schedule, (err or out).strip())
            )


def units(layout: Layout, recycling: Recycling) -> Dict[str, str]:
    """Return the texts of the units that are wanted, by their kind and suffix."""
    revert = _REVERT.format(
        name=layout.name, trial=layout.trial, program=layout.program
    )
    found = {slots.REVERT: revert}
    if recycling.schedule:
        when = "OnCalendar={0}\nRandomizedDelaySec={1}\n".format(
            recycling.schedule, recycling.spread_s
        )
        found.update(_pair(layout, "recycle", "on schedule", "", when))
    if recycling.memory_mb:
        options = " --above-memory-mb {0} --min-age-s {1}".format(
            recycling.memory_mb, recycling.min_age_s
        )
        when = "OnActiveSec={0}\nOnUnitInactiveSec={0}\nAccuracySec=1\n".format(
            MEMORY_INTERVAL_S
        )
        found.update(_pair(layout, "memory", "above its memory limit", options, when))
    return found


def _pair(
    layout: Layout, kind: str, why: str, options: str, when: str
) -> Dict[str, str]:
    service = _SERVICE.format(
        name=layout.name,
        why=why,
        program=layout.program,
        options=options,
        busy=BUSY_STATUS,
    )
    timer = _TIMER.format(name=layout.name, why=why, when=when)
    return {kind + ".service": service, kind + ".timer": timer}


class Upkeep:
    """A service's program and units on this host."""

    def __init__(self, layout: Layout, systemd: Systemd, *, dry_run: bool) -> None:
        self._layout = layout
        self._systemd = systemd
        self._dry_run = dry_run
        self.diff: List[Dict[str, str]] = []
        self.changed = False

    def put(self, program: bytes, wanted: Dict[str, str]) -> None:
        """Make the program and exactly these units be there and in force."""
        self._put_program(program)
        self._put_units(wanted)

    def remove(self) -> None:
        """Take all of it away."""
        self._put_units({})
        self._put_program(b"")
        if not self._dry_run:
            self._layout.recycled.unlink(missing_ok=True)

    def _put_program(self, program: bytes) -> None:
        path = self._layout.program
        before = _bytes_of(path)
        if before == program:
            return
        self.changed = True
        self.diff.append(slots.diff_entry(str(path), _digest(before), _digest(program)))
        if self._dry_run:
            return
        if program:
            slots.write_bytes_atomically(path, program, PROGRAM_MODE)
        else:
            path.unlink()

    def _put_units(self, wanted: Dict[str, str]) -> None:
        changes = {
            each: wanted.get(each, "")
            for each in reversed(slots.OWN_UNITS)
            if self._text(each) != wanted.get(each, "")
        }
        for each, text in changes.items():
            header = self._name(each)
            self.diff.append(slots.diff_entry(header, self._text(each), text))
        # A timer that runs goes by its old text, after an interrupted run too.
        unread = [each for each in wanted if self._is_unread(each)]
        due = [
            each
            for each in wanted
            if _is_lasting(each)
            and (each in changes or each in unread or not self._is_in_force(each))
        ]
        self.changed = self.changed or bool(changes or unread or due)
        if not self._dry_run:
            self._write(changes)
            if changes or unread:
                self._systemd.reload_units()
            for each in due:
                self._systemd.act("enable", [self._name(each)])
                if _is_timer(each):
                    self._systemd.act("restart", [self._name(each)])

    def _write(self, changes: Dict[str, str]) -> None:
        for each, text in changes.items():
            path = self._layout.own_unit(each)
            if text:
                slots.write_atomically(path, text, UNIT_MODE)
                continue
            if _is_timer(each):
                self._systemd.act("disable", [path.name], "--now")
            elif _is_lasting(each):
                self._systemd.act("disable", [path.name])
            else:
                # One that is at work goes on: stopped, it would leave two slots.
                self._systemd.forget_failures([path.name])
            path.unlink()

    def _is_unread(self, unit: str) -> bool:
        needs = self._systemd.show(self._name(unit), "NeedDaemonReload")
        return needs["NeedDaemonReload"] == "yes"

    def _name(self, unit: str) -> str:
        return self._layout.own_unit(unit).name

    def _is_in_force(self, unit: str) -> bool:
        name = self._name(unit)
        if _is_timer(unit) and not self._systemd.is_active(name):
            return False
        return self._systemd.is_enabled(name)

    def _text(self, unit: str) -> str:
        return _bytes_of(self._layout.own_unit(unit)).decode()


def _is_timer(unit: str) -> bool:
    return unit.endswith(".timer")


def _is_lasting(unit: str) -> bool:
    """Tell whether a boot starts it."""
    return _is_timer(unit) or unit == slots.REVERT


def _digest(program: bytes) -> str:
    return "sha256 {0}\n".format(sha256(program).hexdigest()) if program else ""


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
