# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the lanes of a loss probe: each request when it is due, whatever came before.

A client that waited for the last answer before it thought of the next request
would send none while nothing answers, and so miss what a visitor would lose.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Protocol, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils import loss_tally
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_http import (
    HttpClient,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_lanes import Lane
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import (
    ANSWERED,
    LATE,
    NEVER_SENT,
    Connections,
    Ended,
    LaneTally,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_websocket import (
    WebSocketClient,
)

_STOP_INTERVAL_S = 0.1


class Client(Protocol):
    """Sends a request and tells how it ended; never raises for a lost one."""

    def send(self, number: int) -> Ended: ...

    def close(self) -> None: ...


MakeClient = Callable[[Lane, Connections], Client]


def client_of(lane: Lane, connections: Connections) -> Client:
    """Return the client for a lane of its kind."""
    if lane.kind == "websocket":
        return WebSocketClient(lane, connections)
    return HttpClient(lane, connections)


@dataclass(frozen=True)
class Probe:
    """How long to send (seconds), and what may end it sooner."""

    lanes: Sequence[Lane]
    duration_s: float
    should_stop: Callable[[], bool] = lambda: False

    @property
    def planned_requests(self) -> int:
        """Return how many requests are due before the time has passed."""
        return sum(math.ceil(self.duration_s * each.rate_per_s) for each in self.lanes)


class _Sender:
    """One client of a lane: every so-manieth request of the lane is its own."""

    def __init__(
        self, lane: Lane, index: int, tally: LaneTally, client: Client
    ) -> None:
        self._lane = lane
        self._index = index
        self._tally = tally
        self._client = client

    def run(self, begun: float, duration_s: float, stop: threading.Event) -> None:
        """Send until the time has passed, or ``stop`` is set."""
        lane, number = self._lane, self._index
        while True:
            due_s = number / lane.rate_per_s
            if due_s >= duration_s or stop.wait(
                max(begun + due_s - time.monotonic(), 0)
            ):
                break
            self._send(number, due_s, begun, duration_s)
            number += lane.connections
        self._client.close()

    def _send(self, number: int, due_s: float, begun: float, duration_s: float) -> None:
        begun_s = time.monotonic() - begun
        if begun_s > duration_s + self._lane.timeout_s:
            ended = Ended(NEVER_SENT, "the probe's time had passed before its turn")
        else:
            ended = self._client.send(number)
        done_s = time.monotonic() - begun
        if ended.kind == ANSWERED and (done_s - due_s) * 1e3 > self._lane.late_after_ms:
            ended = replace(ended, kind=LATE)
        self._tally.add(number, ended, due_s=due_s, begun_s=begun_s, done_s=done_s)


def run_probe(probe: Probe, make_client: MakeClient = client_of) -> Dict[str, Any]:
    """Send all lanes at once; return what became of every request."""
    tallies = {lane.name: LaneTally(lane.name) for lane in probe.lanes}
    senders = [
        _Sender(
            lane,
            index,
            tallies[lane.name],
            make_client(lane, tallies[lane.name].connections),
        )
        for lane in probe.lanes
        for index in range(lane.connections)
    ]
    begun, begun_at = time.monotonic(), time.time()
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=sender.run, args=(begun, probe.duration_s, stop), daemon=True
        )
        for sender in senders
    ]
    for thread in threads:
        thread.start()
    _wait(threads, probe, stop)
    return {
        "begun_at_s": round(begun_at, 3),
        "seconds": round(time.monotonic() - begun, 3),
        **_account(tallies),
    }


def _wait(
    threads: Sequence[threading.Thread], probe: Probe, stop: threading.Event
) -> None:
    while any(thread.is_alive() for thread in threads):
        if probe.should_stop():
            stop.set()
        time.sleep(_STOP_INTERVAL_S)


def _account(tallies: Dict[str, LaneTally]) -> Dict[str, Any]:
    all_of: List[LaneTally] = list(tallies.values())
    return {
        "requests": sum(tally.requests for tally in all_of),
        "lost": sum(tally.lost for tally in all_of),
        "lanes": {name: tally.as_result() for name, tally in tallies.items()},
        "failures": loss_tally.first_failures(all_of),
        "timeline": loss_tally.timeline(tallies),
    }
