# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An application of an arm's own: the live slot's, changed in what the arm says."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

# Options of Gunicorn that an arm may have other than the live slot, and their type.
GUNICORN_OPTIONS: Dict[str, type] = {
    "backlog": int,
    "graceful-timeout": int,
    "keep-alive": int,
    "log-level": str,
    "max-requests": int,
    "max-requests-jitter": int,
    "threads": int,
    "timeout": int,
    "worker-class": str,
    "worker-connections": int,
    "workers": int,
}
# Of the live unit, what a transient one does not need or has otherwise.
_LEFT_OUT = frozenset(
    (
        "ExecStart",
        "Group",
        "NotifyAccess",
        "Restart",
        "RestartSec",
        "SyslogIdentifier",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "Type",
    )
)


@dataclass(frozen=True)
class LiveUnit:
    """The live slot's [Service] section, its specifiers resolved."""

    settings: Sequence[str]
    command: Sequence[str]

    def value(self, name: str) -> str:
        """Return the last value of a setting, '' without one."""
        found = [each for each in self.settings if each.startswith(name + "=")]
        return found[-1].partition("=")[2] if found else ""


def read_unit(text: str, slot: str) -> LiveUnit:
    """Return what a slot's unit file says. Raises KeepaliveError without ExecStart."""
    section, settings = "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            settings.append(line.replace("%i", slot).replace("%%", "%"))
    unit = LiveUnit(settings, [])
    command = shlex.split(unit.value("ExecStart"))
    if not command:
        raise KeepaliveError("the live slot's unit has no ExecStart; deploy it anew")
    return LiveUnit(settings, command)


def check_gunicorn(options: Mapping[str, object]) -> None:
    """Raise KeepaliveError for options that an arm may not have."""
    for name, value in options.items():
        wanted = GUNICORN_OPTIONS.get(name)
        # Whole numbers may arrive as text.
        number = wanted is int and str(value).isdigit() and not isinstance(value, bool)
        if not number and not (wanted is str and isinstance(value, str)):
            raise KeepaliveError(
                "arms: gunicorn has {0}: {1!r}; known are {2}".format(
                    name,
                    value,
                    ", ".join(
                        "{0} ({1})".format(*(each, kind.__name__))
                        for each, kind in GUNICORN_OPTIONS.items()
                    ),
                )
            )


def app_command(unit: LiveUnit, bind: str, options: Mapping[str, object]) -> List[str]:
    """Return the live slot's command line with the arm's socket and options."""
    flags = [word for name, value in options.items() for word in ("--" + name, value)]
    return [*unit.command, "--umask", "7", "--bind", bind, *map(str, flags)]


def app_properties(unit: LiveUnit, group: str, runtime_directory: str) -> List[str]:
    """Return the properties of the transient unit: its sandbox is the live slot's."""
    kept = [each for each in unit.settings if each.partition("=")[0] not in _LEFT_OUT]
    return [
        *kept,
        # nginx reaches the socket by group, as it does the live slot's.
        "Group={0}".format(group),
        "RuntimeDirectory={0}".format(runtime_directory),
        "RuntimeDirectoryMode=0750",
        "TimeoutStopSec=10",
    ]
