# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many connections were opened for the requests of a run, by two witnesses a hop.

nginx gives every connection a number from one counter that all its workers share,
be it accepted from a client or opened to an upstream (ngx_event_accept.c and
ngx_event_connect.c, ``c->number``). ``$connection`` shows where the counter
stands and stub_status how many were accepted, so what it opened itself is the
difference: exact, on unix sockets as on TCP.

The kernel is the other witness. Connections of clients it counts (PassiveOpens).
Those between nginx and the application are looked at some times a second: how
many of them are still there tells how many requests one lives for.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, FrozenSet, Iterator, List, Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

# A short run is looked at more often: few looks prove nothing.
_LOOKS = 40
_SHORTEST_INTERVAL_S = 0.1
_LONGEST_INTERVAL_S = 0.25
# A connection a request, and next to none: what the two arms must show.
NEW_TOLERANCE = 0.01
KEPT_AT_MOST = 0.002
CONNECTION_HEADER = "X-Connection"

_TCP_ESTABLISHED = "01"
_LISTENS = 0x10000
# Requests spend at least a quarter of their cycle at the application.
_AT_APP = 4.0
# Where none of a kind was seen, up to three may be expected (95 %, Poisson).
_NONE_SEEN = 3.0


@dataclass(frozen=True)
class NginxCount:
    """``opened`` are connections to upstreams; the request that asked counts too."""

    accepted: int
    requests: int
    opened: int


def parse_status(body: str, connection: Optional[str]) -> NginxCount:
    """Return the counters of stub_status's page and its X-Connection header.

    Raises KeepaliveError if it is no such page.
    """
    found = re.search(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s*$", body, re.MULTILINE)
    if not found or not (connection or "").isdigit():
        raise KeepaliveError(
            "nginx_status_url must give stub_status's page with a header {0} that has "
            "$connection".format(CONNECTION_HEADER)
        )
    accepted, requests = int(found.group(1)), int(found.group(3))
    return NginxCount(accepted, requests, int(connection or 0) - accepted)


def passive_opens(snmp: str) -> int:
    """Return how many TCP connections were accepted since boot (/proc/net/snmp)."""
    names, values = (
        line.split() for line in snmp.splitlines() if line.startswith("Tcp:")
    )
    return int(values[names.index("PassiveOpens")])


def unix_peers(table: str, path: str) -> FrozenSet[str]:
    """Return names of the connections that a Unix socket's server side holds.

    ``table`` is /proc/net/unix. A name is the inode, which stays; one still in the
    accept queue has none yet and gets a name that no other look will give.
    """
    found = set()
    for number, line in enumerate(table.splitlines()):
        fields = line.split(None, 7)
        if fields[7:] == [path] and not int(fields[3], 16) & _LISTENS:
            queued = "{0}-{1}".format(number, time.monotonic())
            found.add(fields[6] if fields[6] != "0" else queued)
    return frozenset(found)


def tcp_peers(table: str, port: int) -> FrozenSet[str]:
    """Return the inodes of the established connections to a port of this host."""
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        local_port = int(fields[1].rpartition(":")[2], 16)
        if local_port == port and fields[3] == _TCP_ESTABLISHED and fields[9] != "0":
            found.add(fields[9])
    return frozenset(found)


def sampler(target: str, proc: Path) -> Callable[[], FrozenSet[str]]:
    """Return what looks at the application's connections once.

    ``target`` is unix:/path or host:port. A symbolic link is followed once, for
    the kernel knows the path that was listened on. Raises KeepaliveError.
    """
    if target.startswith("unix:"):
        path = os.path.realpath(target[len("unix:") :])
        table = proc / "net" / "unix"
        return lambda: unix_peers(table.read_text(errors="replace"), path)
    host, _colon, port = target.rpartition(":")
    if not host or not port.isdigit():
        raise KeepaliveError(
            "app_socket is {0!r}; it must be unix:/path or host:port".format(target)
        )
    tables = [proc / "net" / "tcp", proc / "net" / "tcp6"]
    return lambda: frozenset().union(
        *(tcp_peers(each.read_text(), int(port)) for each in tables if each.exists())
    )


def look_interval_s(duration_s: float) -> float:
    """Return after how long to look again, in a run of ``duration_s``."""
    return min(_LONGEST_INTERVAL_S, max(_SHORTEST_INTERVAL_S, duration_s / _LOOKS))


@contextlib.contextmanager
def watched(
    look: Callable[[], FrozenSet[str]], interval_s: float
) -> Iterator[List[FrozenSet[str]]]:
    """Look at the application's connections in the background; yield what is seen."""
    samples: List[FrozenSet[str]] = []
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(interval_s):
            samples.append(look())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True)
class Estimate:
    """Connections per request, and between which bounds; an exact one has none."""

    value: float
    low: float
    high: float

    @property
    def tells_nothing(self) -> bool:
        """Tell whether it allows a new connection for each request as well as none."""
        return self.low <= KEPT_AT_MOST and self.high >= 1 - NEW_TOLERANCE


def sampled_per_request(
    samples: List[FrozenSet[str]],
    interval_s: float,
    *,
    requests_per_s: float,
    connections: int,
    all_requests: int,
) -> Optional[Estimate]:
    """Estimate connections per request from those that are new at each look.

    At least what was seen was opened, by ``all_requests`` of the run, since many may
    be opened at once. A connection that lives shorter than the
    interval is seen with the probability of its lifetime to the interval; how long
    new ones live is seen too, and it is no shorter than a request at the
    application, for which the generator's cycle stands. None after less than two
    looks, or without requests.
    """
    looks = len(samples) - 1
    if looks < 1 or not requests_per_s:
        return None
    new = [after - before for before, after in zip(samples, samples[1:])]
    opened = sum(len(each) for each in new)
    lived = sum(len(each & later) for each, later in zip(new, samples[2:]))
    requests = requests_per_s * interval_s * looks
    cycle = connections / requests_per_s / interval_s
    share = max(lived / opened if opened else 1.0, min(1.0, cycle))
    most = _AT_APP * (opened + _NONE_SEEN) / (requests * min(1.0, cycle))
    low = opened / max(requests, all_requests)
    return Estimate(min(1.0, opened / (requests * share)), low, min(1.0, most))


@dataclass(frozen=True)
class Reuse:
    """Connections that one hop's requests had opened, by each witness.

    ``fill`` is how many may have been opened because there were none yet, which
    says nothing of reuse. ``kernel`` is None where it cannot be asked.
    """

    requests: int
    opened: int
    kernel: Optional[Estimate]
    fill: int

    @property
    def per_request(self) -> float:
        return self.opened / self.requests

    @property
    def agree(self) -> Optional[bool]:
        """Tell whether both witnesses can be right.

        None with one alone, or when the kernel's tells nothing.
        """
        if self.kernel is None or self.kernel.tells_nothing:
            return None
        slack = NEW_TOLERANCE + self.fill / self.requests
        low, high = self.kernel.low - slack, self.kernel.high + slack
        return low <= self.per_request <= high

    @property
    def kept(self) -> bool:
        return self.opened - self.fill <= KEPT_AT_MOST * self.requests

    @property
    def new(self) -> bool:
        unfinished = NEW_TOLERANCE * self.requests + self.fill
        return abs(self.opened - self.requests) <= unfinished

    def doubts(self, hop: str, expected: str) -> List[str]:
        """Return why the hop is not as ``expected``: kept, new or any."""
        told = "{0:.4f} connections to {1} per request".format(self.per_request, hop)
        if expected != "any" and self.kept and self.new:
            return [
                "{0} requests are too few to tell whether connections to {1} are kept "
                "alive; measure for longer or with fewer connections".format(
                    self.requests, hop
                )
            ]
        if expected != "any" and self.kernel and self.kernel.tells_nothing:
            return [
                "the kernel's witness allows a new connection to {0} for each request "
                "as well as none ({1:.4f} to {2:.4f}), so nothing but nginx tells of "
                "reuse; measure for longer or on a quieter host".format(
                    hop, self.kernel.low, self.kernel.high
                )
            ]
        if self.kernel and self.agree is False:
            return [
                "the witnesses disagree: nginx counted {0}, the kernel {1:.4f} to "
                "{2:.4f} (other traffic on the host, perhaps)".format(
                    told, self.kernel.low, self.kernel.high
                )
            ]
        if expected == "kept" and not self.kept:
            return ["connections are not kept alive: {0}".format(told)]
        if expected == "new" and not self.new:
            return ["requests do not each open a connection: {0}".format(told)]
        return []

    def as_result(self) -> Dict[str, object]:
        kernel = self.kernel
        return {
            "nginx": round(self.per_request, 5),
            "kernel": kernel and round(kernel.value, 5),
            "kernel_low": kernel and round(kernel.low, 5),
            "kernel_high": kernel and round(kernel.high, 5),
            "agree": self.agree,
        }


@dataclass(frozen=True)
class Snapshot:
    """Both counters at one moment."""

    nginx: NginxCount
    passive_opens: int


def client_reuse(
    before: Snapshot, after: Snapshot, *, connections: int, app_is_tcp: bool
) -> Optional[Reuse]:
    """Return the hop from the client to nginx; None if nothing was requested.

    The generator opens its ``connections`` in any case, and wrk one more. The
    kernel counts those of an application on TCP too.
    """
    requests = after.nginx.requests - before.nginx.requests - 1
    if requests < 1:
        return None
    passive = after.passive_opens - before.passive_opens
    if app_is_tcp:
        passive -= after.nginx.opened - before.nginx.opened
    exact = passive / requests
    return Reuse(
        requests,
        after.nginx.accepted - before.nginx.accepted - 1,
        Estimate(exact, exact, exact),
        connections + 1,
    )


def upstream_reuse(
    before: Snapshot,
    after: Snapshot,
    sampled: Optional[Estimate],
    *,
    fill: int,
) -> Optional[Reuse]:
    """Return the hop from nginx to the application; None if nothing was requested."""
    requests = after.nginx.requests - before.nginx.requests - 1
    if requests < 1:
        return None
    opened = after.nginx.opened - before.nginx.opened
    return Reuse(requests, opened, sampled, fill)
