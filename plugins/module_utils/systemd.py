# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few things we ask of systemd, through systemctl and journalctl."""

from __future__ import annotations

import re
from typing import Dict, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    Runner,
    checked,
)

_TIMESPAN = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w|month|y)\b")
_UNITS_S = {
    "us": 0.000001,
    "ms": 0.001,
    "s": 1,
    "min": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
    "month": 2_629_800,
    "y": 31_557_600,
}


def parse_timespan_s(text: str) -> Optional[int]:
    """Return whole seconds of ``1min 30s``; None for ``infinity`` or nothing."""
    pieces = _TIMESPAN.findall(text)
    if not pieces:
        return None
    return int(sum(float(number) * _UNITS_S[unit] for number, unit in pieces))


class Systemd:
    """systemctl and journalctl behind the verbs a switch needs."""

    def __init__(self, run: Runner) -> None:
        self._run = run

    def show(self, unit: str, *properties: str) -> Dict[str, str]:
        """Return the named properties of one unit ('' for unknown ones)."""
        text = checked(
            self._run,
            ["systemctl", "show", "--property", ",".join(properties), "--", unit],
            "cannot read the state of {0}".format(unit),
        )
        values = dict(line.partition("=")[::2] for line in text.splitlines())
        return {name: values.get(name, "") for name in properties}

    def is_active(self, unit: str) -> bool:
        return self.show(unit, "ActiveState")["ActiveState"] == "active"

    def active_for_s(self, unit: str, now_s: float) -> float:
        """Return for how long it has run, by the monotonic clock; 0 if it does not."""
        since = self.show(unit, "ActiveState", "ActiveEnterTimestampMonotonic")
        if since["ActiveState"] != "active":
            return 0.0
        return now_s - int(since["ActiveEnterTimestampMonotonic"] or 0) / 1e6

    def is_enabled(self, unit: str) -> bool:
        return self.show(unit, "UnitFileState")["UnitFileState"] == "enabled"

    def reload_units(self) -> None:
        checked(
            self._run,
            ["systemctl", "daemon-reload"],
            "systemd does not read its units again",
        )

    def act(self, verb: str, units: Sequence[str], *options: str) -> None:
        """Start, stop, enable or disable units. Raises KeepaliveError."""
        checked(
            self._run,
            ["systemctl", "--quiet", verb, *options, "--", *units],
            "cannot {0} {1}".format(verb, " ".join(units)),
        )

    def forget_failures(self, units: Sequence[str]) -> None:
        """Zero the units' restart counters; one not loaded has none to zero."""
        self._run(["systemctl", "--quiet", "reset-failed", "--", *units])

    def kill(self, unit: str) -> None:
        """Kill the unit's processes; one without any has none to kill."""
        self._run(["systemctl", "--quiet", "kill", "--signal=KILL", "--", unit])

    def journal_cursor(self) -> str:
        """Return where the journal stands now ('' when it cannot be read)."""
        _status, out, _err = self._run(
            ["journalctl", "--lines=0", "--show-cursor", "--quiet", "--no-pager"]
        )
        return out.partition("cursor: ")[2].strip()

    def journal_since(self, unit: str, cursor: str, lines: int = 30) -> str:
        """Return what the unit logged after ``cursor``, the last lines of it."""
        argv = [
            "journalctl",
            "--unit={0}".format(unit),
            "--output=cat",
            "--quiet",
            "--no-pager",
        ]
        if cursor:
            argv.append("--after-cursor={0}".format(cursor))
        _status, out, _err = self._run(argv)
        return "\n".join(out.splitlines()[-lines:])
