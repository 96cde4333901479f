# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the lanes of a loss probe: each request when it is due.

A client that thought of the next request only after the last answer would send none
while nothing answers, and so miss what a visitor would lose. Here a request that
finds all clients of its lane waiting is late, and counts in any case.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Protocol, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils import loss_tally
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_http import (
    HttpClient,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_lanes import Lane
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import (
    ANSWERED,
    LATE,
    NEVER_SENT,
    UNANSWERED,
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

    def abort(self) -> None: ...


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
        return sum(_due_before(self.duration_s, each.rate_per_s) for each in self.lanes)


def _due_before(seconds: float, rate_per_s: float) -> int:
    number = math.floor(seconds * rate_per_s)
    return number + (number / rate_per_s < seconds)


class _End:
    """When the last request is due: after the duration, or where it was stopped."""

    def __init__(self, begun: float, duration_s: float) -> None:
        self.begun = begun
        self.after_s = duration_s
        self._stopped = threading.Event()

    def stop(self) -> None:
        if not self._stopped.is_set():
            self.after_s = min(self.after_s, self.now_s())
            self._stopped.set()

    def now_s(self) -> float:
        return time.monotonic() - self.begun

    def wait_until(self, due_s: float) -> bool:
        """Wait until a request is due; return whether it is to be sent."""
        if due_s < self.after_s:
            self._stopped.wait(max(due_s - self.now_s(), 0))
        return due_s < self.after_s


class _Sender:
    """One client of a lane: every so-manieth request of the lane is its own."""

    def __init__(
        self, lane: Lane, index: int, tally: LaneTally, client: Client
    ) -> None:
        self._lane = lane
        self._index = index
        self._tally = tally
        self._client = client

    def run(self, end: _End) -> None:
        """Send all that is due before the end."""
        number = self._index
        while end.wait_until(number / self._lane.rate_per_s):
            self._send(number, end)
            number += self._lane.connections
        self._client.close()

    def abort(self) -> None:
        """End the request that is under way."""
        self._client.abort()

    def _send(self, number: int, end: _End) -> None:
        lane, begun_s = self._lane, end.now_s()
        due_s = number / lane.rate_per_s
        if begun_s > end.after_s + lane.timeout_s:
            ended = Ended(NEVER_SENT, "the probe ended before its turn")
        else:
            ended = self._ended(number)
        done_s = end.now_s()
        if ended.kind == ANSWERED and (done_s - due_s) * 1e3 > lane.late_after_ms:
            ended = replace(ended, kind=LATE)
        self._tally.add(number, ended, due_s=due_s, begun_s=begun_s, done_s=done_s)

    def _ended(self, number: int) -> Ended:
        try:
            return self._client.send(number)
        # Whatever it is, the request counts and the client goes on.
        except Exception as error:  # noqa: BLE001
            self._client.close()
            return Ended(UNANSWERED, "the probe failed: {0!r}".format(error))


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
    begun_at, end = time.time(), _End(time.monotonic(), probe.duration_s)
    threads = {
        threading.Thread(target=sender.run, args=(end,), daemon=True): sender
        for sender in senders
    }
    for thread in threads:
        thread.start()
    _wait(threads, probe, end)
    return {
        "begun_at_s": round(begun_at, 3),
        "seconds": round(end.now_s(), 3),
        **_account(tallies),
    }


def _wait(threads: Mapping[threading.Thread, _Sender], probe: Probe, end: _End) -> None:
    """Wait for the answers; what goes on for ever is ended after all timeouts."""
    patience_s = max(lane.timeout_s for lane in probe.lanes)
    while any(thread.is_alive() for thread in threads):
        if probe.should_stop():
            end.stop()
        if end.now_s() > end.after_s + patience_s:
            for thread, sender in threads.items():
                if thread.is_alive():
                    sender.abort()
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
