# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Account for every request of a loss probe: each ends in exactly one way."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.latencies import (
    encode_hdr,
    percentile_us,
)

ANSWERED = "answered"
LATE = "late"
NEVER_SENT = "never_sent"
UNANSWERED = "unanswered"
RESET_ON_REUSE = "reset_on_reuse"
SERVER_ERROR = "server_error"
WRONG_ANSWER = "wrong_answer"
LOST = (NEVER_SENT, UNANSWERED, RESET_ON_REUSE, SERVER_ERROR, WRONG_ANSWER)
ENDS = (ANSWERED, LATE, *LOST)

_FAILURES_KEPT = 20
_POINTS_AT_MOST = 600
_DIGITS = 3
_PERCENTILES = {"p50": 50, "p99": 99, "max": 100}


@dataclass(frozen=True)
class Ended:
    """How one request ended, and what its client saw.

    ``request_of_connection`` counts from 1; 0 without a connection.
    """

    kind: str
    said: str = ""
    request_of_connection: int = 0
    connection_age_s: float = 0.0


@dataclass
class Connections:
    """What became of a lane's connections.

    The server may close one that waits for a request: a client then opens another,
    and nothing is lost. ``closed_abruptly`` are WebSockets that ended without a
    close frame, and others that ended while a request was under way.
    """

    opened: int = 0
    closed_by_server: int = 0
    closed_abruptly: int = 0


class LaneTally:
    """The ends of one lane's requests. Times are seconds after the probe began."""

    def __init__(self, name: str) -> None:
        self.connections = Connections()
        self._name = name
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(ENDS, 0)
        self._by_second: Dict[int, Dict[str, int]] = {}
        self._latencies_us: Dict[int, int] = {}
        self._lags_us: Dict[int, int] = {}
        self._failures: List[Dict[str, Any]] = []

    def add(
        self, number: int, ended: Ended, *, due_s: float, begun_s: float, done_s: float
    ) -> None:
        """Count one request, whose latency begins when it was due."""
        with self._lock:
            self._counts[ended.kind] += 1
            second = self._by_second.setdefault(int(done_s), {})
            second[ended.kind] = second.get(ended.kind, 0) + 1
            _count(self._lags_us, begun_s - due_s)
            if ended.kind in (ANSWERED, LATE):
                _count(self._latencies_us, done_s - due_s)
            elif len(self._failures) < _FAILURES_KEPT:
                self._failures.append(
                    self._failure(number, ended, due_s, begun_s, done_s)
                )

    def _failure(
        self, number: int, ended: Ended, due_s: float, begun_s: float, done_s: float
    ) -> Dict[str, Any]:
        return {
            "lane": self._name,
            "number": number,
            "kind": ended.kind,
            "said": ended.said,
            "due_s": round(due_s, 3),
            "begun_s": round(begun_s, 3),
            "ended_s": round(done_s, 3),
            "request_of_connection": ended.request_of_connection,
            "connection_age_s": round(ended.connection_age_s, 3),
        }

    @property
    def failures(self) -> List[Dict[str, Any]]:
        return list(self._failures)

    @property
    def lost(self) -> int:
        return sum(self._counts[kind] for kind in LOST)

    @property
    def requests(self) -> int:
        return sum(self._counts.values())

    @property
    def last_second(self) -> int:
        return max(self._by_second, default=0)

    def as_result(self) -> Dict[str, Any]:
        """Return the lane's figures by the names that the module documents."""
        return {
            "requests": self.requests,
            "lost": self.lost,
            **self._counts,
            **_figures("latency", self._latencies_us),
            "latency_histogram": encode_hdr(self._latencies_us),
            **_figures("lag", self._lags_us),
            "connections_opened": self.connections.opened,
            "connections_closed_by_server": self.connections.closed_by_server,
            "connections_closed_abruptly": self.connections.closed_abruptly,
        }

    def series(self, interval_s: int, points: int) -> Dict[str, List[int]]:
        """Return how many requests ended in each way, interval by interval."""
        found: Dict[str, List[int]] = {}
        for second in self._by_second:
            for kind, count in self._by_second[second].items():
                row = found.setdefault(kind, [0] * points)
                row[second // interval_s] += count
        return found


def timeline(tallies: Dict[str, LaneTally]) -> Dict[str, Any]:
    """Return all lanes' series, in intervals long enough to keep them short."""
    seconds = 1 + max(tally.last_second for tally in tallies.values())
    interval_s = -(-seconds // _POINTS_AT_MOST)
    points = -(-seconds // interval_s)
    return {
        "interval_s": interval_s,
        "lanes": {
            name: tally.series(interval_s, points) for name, tally in tallies.items()
        },
    }


def first_failures(tallies: Sequence[LaneTally]) -> List[Dict[str, Any]]:
    """Return the first failures of all lanes, in the order in which they were due."""
    found = [failure for tally in tallies for failure in tally.failures]
    return sorted(found, key=lambda each: (each["due_s"], each["number"]))[
        :_FAILURES_KEPT
    ]


def _count(counts: Dict[int, int], seconds: float) -> None:
    micros = max(round(seconds * 1e6), 0)
    # To three digits, so that an hour of them stays small.
    micros = round(micros, min(_DIGITS - len(str(micros)), 0))
    counts[micros] = counts.get(micros, 0) + 1


def _figures(what: str, counts: Dict[int, int]) -> Dict[str, Any]:
    return {
        "{0}_{1}_ms".format(what, name): (
            percentile_us(counts, percent) / 1000 if counts else None
        )
        for name, percent in _PERCENTILES.items()
    }
