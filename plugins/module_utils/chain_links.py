# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a chain of timeouts is made of: budgets, and the values that follow from them.

``CHAIN`` says how each value follows from those before it. Times are whole seconds.

What is said here of nginx was read in its source from 1.22 to 1.31, of
Gunicorn in 27.0.1, of Uvicorn in 0.54.0 and uvicorn-worker 0.4.0.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Callable, Dict, Mapping, NamedTuple, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

VARIABLE_PREFIX = "fastapi_service_"

# Between two timers that must not expire in the wrong order. Each end times a
# connection by its own event loop, which a stalled host delays by seconds; no
# source gives the figure, five is this collection's judgement.
MARGIN_S = 5
# A worker of nginx that stands still, on a disk that takes no more of its log say,
# closes no connection, and the app's timer runs on: one that stood for eight seconds
# with a margin of five lost the POSTs that came next. A minute costs nothing, for it
# is nginx that closes.
NGINX_STALL_S = 60
# Gunicorn queues a TERM behind a HUP in progress, so a stop may wait for two
# graceful timeouts; this leaves its master time to exit after them.
STOP_SLACK_S = 10
# A unix socket connects at once or fails at once; this only bounds surprises.
PROXY_CONNECT_S = 5
# A kept-alive connection is retired by age (keepalive_time). nginx's default
# of 1000 requests would retire it first on a busy host and cost reconnects.
CLIENT_KEEPALIVE_REQUESTS = 10_000
REQUESTS_PER_S_PER_CONNECTION = 1000
# At a reload nginx closes clients that idle, and whoever sends just then loses the
# request; for so long after its last request it leaves a client its connection. More
# would keep it from making room by closing idle ones: ten is this collection's
# judgement.
CLIENT_KEEPALIVE_MIN_S = 10
# The hard limit that systemd gives services by default (man systemd.exec).
MAX_NOFILE = 524_288
# Logs, the event loop, libraries, the application's own files and sockets.
FILES_HEADROOM = 1024
# gasgi.py listens through asyncio's create_server() without passing the
# configured backlog on, so the loop's default of 100 replaces it.
NATIVE_ASGI_BACKLOG = 100

Numbers = Mapping[str, int]
Formula = Callable[[Numbers], int]


class ChainError(KeepaliveError):
    """The budgets or overrides are unusable, or contradict each other."""


class Bounds(NamedTuple):
    """The least and the greatest value accepted, both inclusive."""

    least: int
    greatest: int


_DAY_S = 86_400
_SECONDS = Bounds(1, _DAY_S)
_SECONDS_OR_OFF = Bounds(0, _DAY_S)
# A derived time may sum two budgets and double the sum.
_DERIVED_SECONDS = Bounds(1, 5 * _DAY_S)
_DERIVED_SECONDS_OR_OFF = Bounds(0, 5 * _DAY_S)
_COUNT = Bounds(1, 1_000_000)
_COUNT_OR_OFF = Bounds(0, 1_000_000)
_TALLY = Bounds(1, 1_000_000_000)
_TALLY_OR_OFF = Bounds(0, 1_000_000_000)

BUDGETS: Dict[str, Bounds] = {
    "request_timeout_s": _SECONDS,
    "client_idle_s": _SECONDS,
    "upstream_idle_s": _SECONDS,
    "drain_timeout_s": _SECONDS,
    "start_timeout_s": _SECONDS,
    "concurrent_requests": _COUNT,
    "peak_requests_per_s": _COUNT_OR_OFF,
    "backlog": _COUNT,
    "max_requests": _TALLY_OR_OFF,
    "workers": Bounds(1, 10_000),
    "nginx_workers": Bounds(1, 10_000),
    "nginx_worker_connections": _COUNT,
    "nginx_worker_shutdown_timeout_s": _SECONDS_OR_OFF,
    "somaxconn": Bounds(1, 2**31 - 1),
    # Of the nginx site that is in force before a change; 0 if there is none.
    "in_force_keepalive_time_s": _DERIVED_SECONDS_OR_OFF,
    "in_force_keepalive_s": _DERIVED_SECONDS_OR_OFF,
}


class Link(NamedTuple):
    """One value of the chain: what it may be set to, and what it follows from."""

    bounds: Bounds
    sources: Tuple[str, ...]
    formula: Formula


def _same_as(source: str, bounds: Bounds) -> Link:
    return Link(bounds, (source,), itemgetter(source))


# In order: a link may use budgets and the links above it, so that whatever
# follows from an overridden value follows the override.
CHAIN: Dict[str, Link] = {
    "drain_timeout_s": _same_as("drain_timeout_s", _DERIVED_SECONDS),
    # A slot is drained of connections that nginx uses by the site in force,
    # which an earlier, longer budget may have made.
    "drain_limit_s": Link(
        _DERIVED_SECONDS,
        (
            "drain_timeout_s",
            "request_timeout_s",
            "in_force_keepalive_time_s",
            "in_force_keepalive_s",
        ),
        lambda v: max(v["drain_timeout_s"], _in_force_s(v)),
    ),
    "backlog": _same_as("backlog", _COUNT),
    "client_keepalive_s": Link(
        _DERIVED_SECONDS,
        ("client_idle_s",),
        lambda v: v["client_idle_s"] + MARGIN_S,
    ),
    # From nginx 1.27.4 on; earlier ones know no keepalive_min_timeout.
    "client_keepalive_min_s": Link(
        _DERIVED_SECONDS_OR_OFF,
        ("client_keepalive_s", "nginx_worker_shutdown_timeout_s"),
        lambda v: min(
            v["client_keepalive_s"],
            v["nginx_worker_shutdown_timeout_s"] or CLIENT_KEEPALIVE_MIN_S,
            CLIENT_KEEPALIVE_MIN_S,
        ),
    ),
    "client_keepalive_requests": Link(_TALLY, (), lambda _: CLIENT_KEEPALIVE_REQUESTS),
    "upstream_keepalive_s": _same_as("upstream_idle_s", _DERIVED_SECONDS),
    "app_keepalive_s": Link(
        _DERIVED_SECONDS,
        ("upstream_keepalive_s",),
        lambda v: v["upstream_keepalive_s"] + NGINX_STALL_S,
    ),
    # A worker that lingers needs the upstream idle time as well as the longest
    # request. Stock Uvicorn workers do not linger and only wait less.
    "app_graceful_s": Link(
        _DERIVED_SECONDS,
        ("request_timeout_s", "upstream_keepalive_s"),
        lambda v: max(v["request_timeout_s"], v["upstream_keepalive_s"]) + MARGIN_S,
    ),
    # For asynchronous workers --timeout is a heartbeat, no request timeout.
    "app_heartbeat_s": Link(
        _DERIVED_SECONDS, ("app_graceful_s",), lambda v: 2 * v["app_graceful_s"]
    ),
    "systemd_start_s": _same_as("start_timeout_s", _DERIVED_SECONDS),
    "systemd_stop_s": Link(
        _DERIVED_SECONDS,
        ("app_graceful_s",),
        lambda v: 2 * v["app_graceful_s"] + STOP_SLACK_S,
    ),
    "proxy_connect_s": Link(
        # "this timeout cannot usually exceed 75 seconds": nginx's proxy module.
        Bounds(1, 75),
        (),
        lambda _: PROXY_CONNECT_S,
    ),
    "proxy_read_s": Link(
        _DERIVED_SECONDS,
        ("request_timeout_s", "app_graceful_s", "start_timeout_s"),
        lambda v: _longest_wait_s(v) + MARGIN_S,
    ),
    "proxy_send_s": Link(
        _DERIVED_SECONDS,
        ("request_timeout_s", "app_graceful_s", "start_timeout_s"),
        lambda v: _longest_wait_s(v) + MARGIN_S,
    ),
    # nginx checks a connection's age when it puts it back, not when it takes it
    # out: one put back just in time may idle and then serve one more request
    # (free_keepalive_peer in ngx_http_upstream_keepalive_module.c).
    "upstream_keepalive_time_s": Link(
        _DERIVED_SECONDS,
        ("drain_timeout_s", "request_timeout_s", "upstream_keepalive_s"),
        lambda v: v["drain_timeout_s"] - last_use_s(v) - MARGIN_S,
    ),
    "upstream_keepalive_requests": Link(
        _TALLY,
        ("upstream_keepalive_time_s",),
        lambda v: REQUESTS_PER_S_PER_CONNECTION * v["upstream_keepalive_time_s"],
    ),
    # nginx counts idle connections per worker, and the kernel may hand every
    # client to one worker.
    "upstream_keepalive_pool": _same_as("concurrent_requests", _COUNT),
    "app_max_requests": _same_as("max_requests", _TALLY_OR_OFF),
    "app_max_requests_jitter": Link(
        # A tenth, rounded up: without any, all workers would leave together.
        _TALLY_OR_OFF,
        ("app_max_requests",),
        lambda v: (v["app_max_requests"] + 9) // 10,
    ),
    # The app never holds more connections than nginx can open.
    "limit_nofile": Link(
        _COUNT,
        ("nginx_workers", "nginx_worker_connections"),
        lambda v: min(
            MAX_NOFILE,
            v["nginx_workers"] * v["nginx_worker_connections"] + FILES_HEADROOM,
        ),
    ),
}


def _longest_wait_s(values: Numbers) -> int:
    """Longest silence nginx sees: a long request, or a restart of the app."""
    return max(
        values["request_timeout_s"],
        values["app_graceful_s"] + values["start_timeout_s"],
    )


def last_use_s(values: Numbers) -> int:
    """How long a connection at the end of its lifetime may still be held."""
    return values["request_timeout_s"] + values["upstream_keepalive_s"]


def _in_force_s(values: Numbers) -> int:
    """How long nginx may still use connections by the site in force."""
    if values["in_force_keepalive_time_s"] == 0:
        return 0
    return (
        values["in_force_keepalive_time_s"]
        + values["in_force_keepalive_s"]
        + values["request_timeout_s"]
        + MARGIN_S
    )
