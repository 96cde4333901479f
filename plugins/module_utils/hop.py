# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One hop from nginx to an app, and what can be found on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Iterable, List, Mapping, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.app_command import (
    Settings,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.listeners import (
    Listener,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_routes import (
    Route,
    Upstream,
    Version,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.process import Process

# An error costs the reuse of connections, or requests. A warning does so in some
# event, such as a stop, or costs something beside. Information is worth knowing
# before nginx or the app is changed.
ERROR, WARNING, INFO = "error", "warning", "info"
_SEVERITIES = (ERROR, WARNING, INFO)
_PLACES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, and what to do."""

    id: str
    severity: str
    reason: str
    fix: str
    upstream: str = ""
    where: str = ""


@dataclass(frozen=True)
class App:
    """Who serves an upstream's address. Without ``process`` nobody here does."""

    listener: Listener
    is_local: bool
    server: str = ""
    process: Optional[Process] = None
    settings: Optional[Settings] = None
    settings_unread: str = ""
    config_is_newer: bool = False
    unit: Optional[Mapping[str, str]] = None
    stop_s: Optional[int] = None
    start_s: Optional[int] = None
    service: str = ""
    live_slot: str = ""

    @property
    def address(self) -> str:
        return self.listener.address

    @property
    def is_foreign(self) -> bool:
        """Tell whether it is known to be no Python program."""
        if self.process is None or self.server:
            return False
        return "python" not in os.path.basename(self.process.exe)


@dataclass(frozen=True)
class Hop:
    """One upstream: the routes that lead to it and the apps behind it."""

    upstream: Upstream
    routes: Sequence[Route]
    apps: Sequence[App]
    version: Version
    nginx_workers: int
    somaxconn: int
    # Addresses of each server that is given by name.
    peers: Mapping[str, Sequence[str]]

    @property
    def kept_alive(self) -> bool:
        """Tell whether nginx reuses a connection on any of the routes."""
        pool = self.upstream.pool and not self.upstream.overridden_by
        return bool(pool) and any(route.kept_alive for route in self.routes)

    @property
    def worst(self) -> str:
        """Return how bad a hop without kept connections is."""
        foreign = bool(self.apps) and all(app.is_foreign for app in self.apps)
        return WARNING if foreign else ERROR

    def where(self, routes: Iterable[Route]) -> str:
        places = ["{0.server}, {0.location} ({0.file})".format(each) for each in routes]
        places = list(dict.fromkeys(places))
        rest = len(places) - _PLACES
        more = ["and {0} more".format(rest)] if rest > 0 else []
        return "; ".join(places[:_PLACES] + more)

    def find(
        self,
        identity: str,
        severity: str,
        reason: str,
        fix: str,
        routes: Optional[Iterable[Route]] = None,
    ) -> Finding:
        places = self.where(self.routes if routes is None else routes)
        return Finding(identity, severity, reason, fix, self.upstream.name, places)


def ordered(findings: Iterable[Finding]) -> List[Finding]:
    """Return the findings once each, the worst first."""
    return sorted(
        dict.fromkeys(findings),
        key=lambda each: (_SEVERITIES.index(each.severity), each.upstream),
    )
