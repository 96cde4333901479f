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

# No option of Gunicorn's but of the configuration that the role writes for it, which
# reads it from the environment.
LISTENERS = "listeners-per-worker"
_LISTENERS_VARIABLE = "KEEPALIVE_LISTENERS_PER_WORKER"
# Options of Gunicorn that an arm may have other than the live slot, and their type.
GUNICORN_OPTIONS: Dict[str, type] = {
    "backlog": int,
    "graceful-timeout": int,
    "keep-alive": int,
    LISTENERS: int,
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


def app_command(unit: LiveUnit, options: Mapping[str, object]) -> List[str]:
    """Return the live slot's command line with the arm's options."""
    flags = [
        word
        for name, value in options.items()
        if name != LISTENERS
        for word in ("--" + name, str(value))
    ]
    return [*unit.command, *flags]


def app_properties(
    unit: LiveUnit, name: str, options: Mapping[str, object]
) -> List[str]:
    """Return the properties of the transient unit: its sandbox is the live slot's.

    It takes its socket along when it ends, which systemd holds as it does the live
    slot's: the sandbox keeps Gunicorn from making one.
    """
    kept = [each for each in unit.settings if each.partition("=")[0] not in _LEFT_OUT]
    stop = "ExecStopPost=+/bin/systemctl --no-block stop {0}.socket".format(name)
    environment = (
        ["Environment={0}={1}".format(_LISTENERS_VARIABLE, options[LISTENERS])]
        if LISTENERS in options
        else []
    )
    return [*kept, *environment, stop, "TimeoutStopSec=10"]


def socket_properties(target: str, group: str, backlog: object) -> List[str]:
    """Return the properties of its socket, at unix:/path or host:port."""
    path = target.removeprefix("unix:")
    return [
        "ListenStream={0}".format(path),
        "SocketGroup={0}".format(group),
        "SocketMode=0660",
        "Backlog={0}".format(backlog),
        "RemoveOnStop=yes",
    ]
