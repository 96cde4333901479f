# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hear the witnesses of reuse before, during and after a run, and judge it."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils import reuse
from ansible_collections.keepalive.fastapi.plugins.module_utils.answers import (
    ask_status,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.wrk import (
    WrkPlan,
    WrkRun,
)


@dataclass(frozen=True)
class Witnesses:
    """Who tells of reuse: nginx's counters, and the application's socket.

    ``expect_upstream`` is what nginx shall do with connections to the
    application: kept, new or any.
    """

    nginx_status_url: str = ""
    app_socket: str = ""
    expect_upstream: str = "any"


_LOOKS = 40
_LOOK_EVERY_S = 0.05
_NAMES = {"client": "nginx", "upstream": "the app"}


def _settled(url: str) -> reuse.NginxCount:
    """Return nginx's counters when it accepts nothing more.

    What an earlier run's generator left in the queue when its time was up, above all
    TLS handshakes, would be counted among this run's connections.
    """
    last = ask_status(url)
    for _look in range(_LOOKS):
        time.sleep(_LOOK_EVERY_S)
        now = ask_status(url)
        # The request that asks is a connection too.
        if now.accepted - last.accepted == 1:
            return now
        last = now
    return last


class Witness:
    """What tells of the connections of a run; without a status page, nothing does."""

    def __init__(self, given: Witnesses, duration_s: float, proc: Path) -> None:
        self._given = given
        self._interval_s = reuse.look_interval_s(duration_s)
        self._proc = proc
        self._samples: List[FrozenSet[str]] = []
        self._before: Optional[reuse.Snapshot] = None
        self._after: Optional[reuse.Snapshot] = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear all witnesses of the run that is made meanwhile."""
        url, app = self._given.nginx_status_url, self._given.app_socket
        with contextlib.ExitStack() as stack:
            if url:
                nginx = _settled(url)
                self._before = reuse.Snapshot(nginx, self._passive_opens())
            if app:
                look = reuse.sampler(app, self._proc)
                self._samples = stack.enter_context(
                    reuse.watched(look, self._interval_s)
                )
            yield
        if url:
            # Its own request is the one that nginx counts last.
            passive = self._passive_opens()
            self._after = reuse.Snapshot(ask_status(url), passive)

    def _passive_opens(self) -> int:
        return reuse.passive_opens((self._proc / "net" / "snmp").read_text())

    def testify(self, plan: WrkPlan, run: WrkRun) -> Tuple[Any, List[str]]:
        """Return both hops' reuse, and why it is not what was expected."""
        app = self._given.app_socket
        if not self._before or not self._after:
            return (self._alone(plan, run) if app else None), []
        expected = {
            "client": "kept" if plan.keepalive else "new",
            "upstream": self._given.expect_upstream,
        }
        hops = self._hops(plan, run, self._before, self._after)
        told = {name: hop and hop.as_result() for name, hop in hops.items()}
        reasons = [
            reason
            for name, hop in hops.items()
            if hop
            for reason in hop.doubts(_NAMES[name], expected[name])
        ]
        if app and hops["upstream"] and hops["upstream"].kernel is None:
            reasons.append(
                "app_socket: the run was too short to look at the connections of "
                "{0} twice, so nothing but nginx tells of reuse".format(app)
            )
        return told, reasons

    def _hops(
        self,
        plan: WrkPlan,
        run: WrkRun,
        before: reuse.Snapshot,
        after: reuse.Snapshot,
    ) -> Dict[str, Optional[reuse.Reuse]]:
        app = self._given.app_socket
        sampled = self._sampled(plan, run, after.nginx.requests - before.nginx.requests)
        # Clients that come anew meet any of nginx's workers, each with its own pool.
        workers = 1 if plan.keepalive else os.cpu_count() or 1
        return {
            "client": reuse.client_reuse(
                before,
                after,
                connections=plan.connections,
                app_is_tcp=bool(app) and not app.startswith("unix:"),
            ),
            "upstream": reuse.upstream_reuse(
                before, after, sampled, fill=plan.connections * workers
            ),
        }

    def _sampled(
        self, plan: WrkPlan, run: WrkRun, all_requests: int
    ) -> Optional[reuse.Estimate]:
        return reuse.sampled_per_request(
            self._samples,
            self._interval_s,
            requests_per_s=run.requests_per_s,
            connections=plan.connections,
            all_requests=all_requests,
        )

    def _alone(self, plan: WrkPlan, run: WrkRun) -> Optional[Dict[str, Any]]:
        """Return what the kernel tells of clients of an application without nginx."""
        sampled = self._sampled(plan, run, run.requests)
        if sampled is None:
            return None
        told = reuse.Reuse(max(1, run.requests), 0, sampled, 0).as_result()
        return {"client": {**told, "nginx": None, "agree": None}, "upstream": None}
