# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hear the witnesses of reuse before, during and after a run, and judge it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, FrozenSet, Iterator, List, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils import reuse
from ansible_collections.keepalive.fastapi.plugins.module_utils.answers import (
    ask_status,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.wrk import WrkPlan


@dataclass(frozen=True)
class Witnesses:
    """Who tells of reuse: nginx's counters, and the application's socket.

    ``expect_upstream`` is what nginx shall do with connections to the
    application: kept, new or any.
    """

    nginx_status_url: str = ""
    app_socket: str = ""
    expect_upstream: str = "any"


class Witness:
    """What tells of the connections of a run; without a status page, nothing does."""

    def __init__(self, given: Witnesses, proc: Path) -> None:
        self._given = given
        self._proc = proc
        self._samples: List[FrozenSet[str]] = []
        self._before: Optional[reuse.Snapshot] = None
        self._after: Optional[reuse.Snapshot] = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear all witnesses of what is done meanwhile."""
        url, app = self._given.nginx_status_url, self._given.app_socket
        with contextlib.ExitStack() as stack:
            if url:
                nginx = ask_status(url)
                self._before = reuse.Snapshot(nginx, self._passive_opens())
            if app:
                look = reuse.sampler(app, self._proc)
                self._samples = stack.enter_context(reuse.watched(look))
            yield
        if url:
            # Its own request is the one that nginx counts last.
            passive = self._passive_opens()
            self._after = reuse.Snapshot(ask_status(url), passive)

    def _passive_opens(self) -> int:
        return reuse.passive_opens((self._proc / "net" / "snmp").read_text())

    def testify(self, plan: WrkPlan, rate_per_s: float) -> Tuple[Any, List[str]]:
        """Return both hops' reuse, and why it is not what was expected."""
        if not self._before or not self._after:
            return None, []
        app = self._given.app_socket
        sampled = reuse.sampled_per_request(self._samples, rate_per_s, plan.connections)
        # Clients that come anew meet any of nginx's workers, each with its own pool.
        workers = 1 if plan.keepalive else os.cpu_count() or 1
        hops = {
            "client": reuse.client_reuse(
                self._before,
                self._after,
                connections=plan.connections,
                app_is_tcp=bool(app) and not app.startswith("unix:"),
            ),
            "upstream": reuse.upstream_reuse(
                self._before,
                self._after,
                sampled,
                fill=plan.connections * workers,
            ),
        }
        expected = {
            "client": "kept" if plan.keepalive else "new",
            "upstream": self._given.expect_upstream,
        }
        told = {name: hop and hop.as_result() for name, hop in hops.items()}
        names = {"client": "nginx", "upstream": "the app"}
        reasons = [
            reason
            for name, hop in hops.items()
            if hop
            for reason in hop.doubts(names[name], expected[name])
        ]
        if app and sampled is None:
            reasons.append(
                "app_socket: no connection to {0} was seen during the run, so nothing "
                "but nginx tells of reuse".format(app)
            )
        return told, reasons
