# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of timeouts from the client to systemd, derived and checked.

A few budgets that a person understands go in; every timeout of nginx,
Gunicorn and systemd comes out. Two tables are the whole of it: ``CHAIN`` says
how each value follows from those before it, ``RULES`` which inequalities must
hold between them. Times are whole seconds.

What is said here of nginx was read in its source from 1.22 to 1.31, of
Gunicorn in 27.0.1, of Uvicorn in 0.54.0 and uvicorn-worker 0.4.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from operator import itemgetter
from string import Formatter
from typing import (
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Tuple,
)

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

VARIABLE_PREFIX = "fastapi_service_"
OVERRIDES_VARIABLE = "fastapi_service_chain_overrides"

# Between two timers that must not expire in the wrong order. Each end times a
# connection by its own event loop, which a stalled host delays by seconds; no
# source gives the figure, five is this collection's judgement.
MARGIN_S = 5
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


DAY_S = 86_400
_SECONDS = Bounds(1, DAY_S)
_SECONDS_OR_OFF = Bounds(0, DAY_S)
# A derived time may sum two budgets and double the sum.
_DERIVED_SECONDS = Bounds(1, 5 * DAY_S)
_DERIVED_SECONDS_OR_OFF = Bounds(0, 5 * DAY_S)
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
WORKER_CLASS = "worker_class"


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
        lambda v: v["upstream_keepalive_s"] + max(v["upstream_keepalive_s"], MARGIN_S),
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
        lambda v: v["drain_timeout_s"] - _last_use_s(v) - MARGIN_S,
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


def _last_use_s(values: Numbers) -> int:
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


_DOTTED_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)+")
_WSGI_WORKERS = frozenset(
    ("gthread", "gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet", "tornado")
)
_WORKER_ADVICE = "use uvicorn_worker.UvicornWorker or asgi"


def is_uvicorn(worker_class: str) -> bool:
    return worker_class.startswith(("uvicorn_worker.", "uvicorn.workers."))


def is_native_asgi(worker_class: str) -> bool:
    return worker_class in ("asgi", "gunicorn.workers.gasgi.ASGIWorker")


def _is_wsgi(worker_class: str) -> bool:
    if worker_class.startswith("gunicorn.workers."):
        return not is_native_asgi(worker_class)
    return worker_class in _WSGI_WORKERS


def _lingers(worker_class: str) -> bool:
    """Tell whether a stopping worker still serves its idle connections.

    Uvicorn's server closes them at once, so how long it would be allowed to
    stay is of no use to nginx. Gunicorn's own worker lingers; a class unknown
    here is taken to, which asks more of the chain and never less.
    """
    return not is_uvicorn(worker_class)


class Side(NamedTuple):
    """One side of an inequality: as text with {variables}, and as a number."""

    text: str
    value: Formula


def _just(variable: str) -> Side:
    return Side(f"{{{variable}}}", itemgetter(variable))


@dataclass(frozen=True)
class Inequality:
    """One inequality between values of a chain, evaluated."""

    rule: str
    left_name: str
    left: int
    right_name: str
    right: int
    relation: str
    holds: bool
    why: str
    fix: str
    variables: Tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """An inequality that must hold, and for whom.

    ``fix`` may use {left} and {right}, the values, beside names of variables.
    With ``only_if`` it applies where that variable is not 0 (off, not stated),
    with ``workers`` where the worker class satisfies it.
    """

    name: str
    left: Side
    operator: str
    right: Side
    why: str
    fix: str
    only_if: Optional[str] = None
    workers: Optional[Callable[[str], bool]] = None

    @property
    def variables(self) -> Tuple[str, ...]:
        fields = _fields(self.left.text + self.right.text)
        condition = (self.only_if,) if self.only_if else ()
        return tuple(dict.fromkeys(fields + condition))

    def applies(self, numbers: Numbers, worker_class: object) -> bool:
        if any(variable not in numbers for variable in self.variables):
            return False
        if self.only_if and numbers[self.only_if] == 0:
            return False
        if self.workers is None:
            return True
        return isinstance(worker_class, str) and self.workers(worker_class)

    def evaluate(self, numbers: Numbers, names: Mapping[str, str]) -> Inequality:
        left, right = self.left.value(numbers), self.right.value(numbers)
        left_name = self.left.text.format_map(names)
        right_name = self.right.text.format_map(names)
        return Inequality(
            rule=self.name,
            left_name=left_name,
            left=left,
            right_name=right_name,
            right=right,
            relation=f"{left_name} {self.operator} {right_name}",
            holds=left < right if self.operator == "<" else left <= right,
            why=self.why,
            fix=self.fix.format_map({**names, "left": str(left), "right": str(right)}),
            variables=self.variables,
        )


def _fields(template: str) -> Tuple[str, ...]:
    pieces = Formatter().parse(template)
    return tuple(piece[1] for piece in pieces if piece[1])


RULES: Tuple[Rule, ...] = (
    Rule(
        "client_idle",
        Side(
            f"{{client_idle_s}} + {MARGIN_S}", lambda v: v["client_idle_s"] + MARGIN_S
        ),
        "<=",
        _just("client_keepalive_s"),
        "the client must close an idle connection before nginx does",
        "raise {client_keepalive_s} to at least {left} or lower {client_idle_s}",
    ),
    Rule(
        "upstream_idle",
        Side(
            f"{{upstream_keepalive_s}} + {MARGIN_S}",
            lambda v: v["upstream_keepalive_s"] + MARGIN_S,
        ),
        "<=",
        _just("app_keepalive_s"),
        "nginx must close an idle connection before the app does",
        "raise {app_keepalive_s} to at least {left} or lower {upstream_keepalive_s}",
    ),
    Rule(
        "request_read",
        _just("request_timeout_s"),
        "<=",
        _just("proxy_read_s"),
        "nginx must wait for the longest request",
        "raise {proxy_read_s} to at least {left} or lower {request_timeout_s}",
    ),
    Rule(
        "request_graceful",
        _just("request_timeout_s"),
        "<=",
        _just("app_graceful_s"),
        "a stopping worker must be given the time of the longest request",
        "raise {app_graceful_s} to at least {left} or lower {request_timeout_s}",
    ),
    Rule(
        # Uvicorn reports every timeout / 2 and not at all while it drains, so
        # a drain may have only the other half: R < T / 2 - 1.
        "recycle_uvicorn",
        Side("2 * {request_timeout_s} + 2", lambda v: 2 * v["request_timeout_s"] + 2),
        "<",
        _just("app_heartbeat_s"),
        "a recycled worker sends no heartbeat while it finishes its requests",
        "raise {app_heartbeat_s} above {left}, lower {request_timeout_s} or set"
        " {app_max_requests} to 0",
        only_if="app_max_requests",
        workers=is_uvicorn,
    ),
    Rule(
        # gasgi.py reports every second, and not at all in its _shutdown().
        "recycle_asgi",
        Side(
            f"{{request_timeout_s}} + {MARGIN_S}",
            lambda v: v["request_timeout_s"] + MARGIN_S,
        ),
        "<",
        _just("app_heartbeat_s"),
        "a recycled worker sends no heartbeat while it finishes its requests",
        "raise {app_heartbeat_s} above {left}, lower {request_timeout_s} or set"
        " {app_max_requests} to 0",
        only_if="app_max_requests",
        workers=is_native_asgi,
    ),
    Rule(
        "recycle_workers",
        Side("2", lambda _: 2),
        "<=",
        _just("workers"),
        "Gunicorn replaces a recycled worker only after it has left, and a"
        " single one leaves nobody to serve",
        "raise {workers} to at least 2 or set {app_max_requests} to 0",
        only_if="app_max_requests",
    ),
    Rule(
        "linger_graceful",
        Side(
            f"{{upstream_keepalive_s}} + {MARGIN_S}",
            lambda v: v["upstream_keepalive_s"] + MARGIN_S,
        ),
        "<=",
        _just("app_graceful_s"),
        "a lingering worker must outlive the connections nginx holds to it",
        "raise {app_graceful_s} to at least {left} or lower {upstream_keepalive_s}",
        workers=_lingers,
    ),
    Rule(
        "linger_heartbeat",
        Side(
            f"{{upstream_keepalive_s}} + {MARGIN_S}",
            lambda v: v["upstream_keepalive_s"] + MARGIN_S,
        ),
        "<",
        _just("app_heartbeat_s"),
        "Gunicorn's asgi worker sends no heartbeat while it lingers",
        "raise {app_heartbeat_s} above {left} or lower {upstream_keepalive_s}",
        workers=is_native_asgi,
    ),
    Rule(
        "stop",
        Side(
            f"2 * {{app_graceful_s}} + {STOP_SLACK_S}",
            lambda v: 2 * v["app_graceful_s"] + STOP_SLACK_S,
        ),
        "<=",
        _just("systemd_stop_s"),
        "Gunicorn queues a stop behind a reload, and each may take the graceful"
        " timeout before systemd kills what is left",
        "raise {systemd_stop_s} to at least {left} or lower {app_graceful_s}",
    ),
    Rule(
        "restart_read",
        Side(
            "{app_graceful_s} + {start_timeout_s}",
            lambda v: v["app_graceful_s"] + v["start_timeout_s"],
        ),
        "<",
        _just("proxy_read_s"),
        "a request queued in the socket while the app restarts must not time out",
        "raise {proxy_read_s} above {left} or lower {app_graceful_s} or"
        " {start_timeout_s}",
    ),
    Rule(
        "restart_send",
        Side(
            "{app_graceful_s} + {start_timeout_s}",
            lambda v: v["app_graceful_s"] + v["start_timeout_s"],
        ),
        "<",
        _just("proxy_send_s"),
        "a body larger than the socket's buffer waits while the app restarts",
        "raise {proxy_send_s} above {left} or lower {app_graceful_s} or"
        " {start_timeout_s}",
    ),
    Rule(
        "restart_queue",
        Side(
            "{peak_requests_per_s} * ({app_graceful_s} + {start_timeout_s})",
            lambda v: (
                v["peak_requests_per_s"] * (v["app_graceful_s"] + v["start_timeout_s"])
            ),
        ),
        "<",
        _just("backlog"),
        "the socket must queue what arrives while the app restarts; a full unix"
        " socket is an instant 502",
        "raise {backlog} above {left} (and the kernel's net.core.somaxconn with it)"
        " or lower {app_graceful_s} or {start_timeout_s}",
        only_if="peak_requests_per_s",
    ),
    Rule(
        "restart_queue_asgi",
        Side(
            "{peak_requests_per_s} * ({app_graceful_s} + {start_timeout_s})",
            lambda v: (
                v["peak_requests_per_s"] * (v["app_graceful_s"] + v["start_timeout_s"])
            ),
        ),
        "<",
        Side(str(NATIVE_ASGI_BACKLOG), lambda _: NATIVE_ASGI_BACKLOG),
        "Gunicorn's asgi worker ignores the backlog it is given and listens with"
        f" {NATIVE_ASGI_BACKLOG}",
        "use a Uvicorn worker class or lower {app_graceful_s} or {start_timeout_s}",
        only_if="peak_requests_per_s",
        workers=is_native_asgi,
    ),
    Rule(
        "backlog",
        _just("backlog"),
        "<=",
        _just("somaxconn"),
        "the kernel silently cuts a backlog down to net.core.somaxconn",
        "raise net.core.somaxconn on the host and {somaxconn} with it, or lower"
        " {backlog}",
    ),
    Rule(
        "nginx_reload",
        _just("request_timeout_s"),
        "<=",
        _just("nginx_worker_shutdown_timeout_s"),
        "a reloaded nginx cuts the requests its old workers still serve then",
        "raise {nginx_worker_shutdown_timeout_s} to at least {left}, or set it to 0"
        " for no limit, or lower {request_timeout_s}",
        only_if="nginx_worker_shutdown_timeout_s",
    ),
    Rule(
        "nginx_reload_idle",
        _just("client_keepalive_min_s"),
        "<=",
        _just("nginx_worker_shutdown_timeout_s"),
        "a reloaded nginx would close the clients that it is to leave their"
        " connections",
        "raise {nginx_worker_shutdown_timeout_s} to at least {left}, or set it to 0"
        " for no limit, or lower {client_keepalive_min_s}",
        only_if="nginx_worker_shutdown_timeout_s",
    ),
    Rule(
        "client_keepalive_min",
        _just("client_keepalive_min_s"),
        "<=",
        _just("client_keepalive_s"),
        "nginx cannot leave idle clients their connections for longer than it keeps"
        " them at all",
        "lower {client_keepalive_min_s} or raise {client_keepalive_s}",
    ),
    Rule(
        "open_files",
        Side(
            "{nginx_workers} * {upstream_keepalive_pool} + {concurrent_requests}",
            lambda v: (
                v["nginx_workers"] * v["upstream_keepalive_pool"]
                + v["concurrent_requests"]
            ),
        ),
        "<",
        _just("limit_nofile"),
        "one app process may hold every idle and every active connection",
        "raise {limit_nofile} above {left} or lower {concurrent_requests};"
        " unless overridden the limit follows {nginx_worker_connections},"
        f" up to {MAX_NOFILE}",
    ),
    Rule(
        "drain_room",
        Side(
            f"{{request_timeout_s}} + {{upstream_keepalive_s}} + {MARGIN_S}",
            lambda v: _last_use_s(v) + MARGIN_S,
        ),
        "<",
        _just("drain_timeout_s"),
        "what is left of the drain time is the lifetime of a connection to the"
        " app, and that must be at least 1 s",
        "raise {drain_timeout_s} above {left} or lower {request_timeout_s} or"
        " {upstream_keepalive_s}",
    ),
    Rule(
        "drain",
        Side(
            "{upstream_keepalive_time_s} + {upstream_keepalive_s}"
            " + {request_timeout_s}",
            lambda v: v["upstream_keepalive_time_s"] + _last_use_s(v),
        ),
        "<=",
        _just("drain_timeout_s"),
        "a connection may idle and serve one more request when its lifetime ends,"
        " and the old slot must be empty by then",
        "raise {drain_timeout_s} to at least {left} or lower"
        " {upstream_keepalive_time_s}",
    ),
)


def check_worker_class(worker_class: object) -> str:
    """Return the Gunicorn worker class if it can serve FastAPI kept alive.

    Accepted are ``asgi`` (Gunicorn's own, also by its full path) and the
    dotted path of any class outside Gunicorn. Raises ChainError.
    """
    variable = VARIABLE_PREFIX + WORKER_CLASS
    if not isinstance(worker_class, str):
        raise ChainError(f"{variable} is {worker_class!r}, no text; {_WORKER_ADVICE}.")
    reason = refusal(worker_class)
    if reason:
        raise ChainError(f"{variable} is {worker_class!r}, {reason}.")
    return str(worker_class)


def refusal(worker_class: str) -> Optional[str]:
    """Say why a worker class is no good here, and what is; None if it is good."""
    if worker_class == "sync" or worker_class.startswith("gunicorn.workers.sync."):
        return (
            "which ignores keepalive: it closes the connection after every"
            f" response; {_WORKER_ADVICE}"
        )
    if _is_wsgi(worker_class):
        return f"which serves WSGI applications, and FastAPI is ASGI; {_WORKER_ADVICE}"
    if worker_class.startswith("uvicorn.workers."):
        successor = worker_class.replace("uvicorn.workers.", "uvicorn_worker.", 1)
        return (
            f"deprecated since Uvicorn 0.30; use {successor} of the package"
            " uvicorn-worker"
        )
    if worker_class != "asgi" and not _DOTTED_PATH.fullmatch(worker_class):
        return f"neither asgi nor the dotted path of a Python class; {_WORKER_ADVICE}"
    return None


def check_chain(
    values: Mapping[str, object], names: Optional[Mapping[str, str]] = None
) -> List[Inequality]:
    """Evaluate every rule that applies to the budgets and chain in ``values``.

    ``values`` may be incomplete, as it is when read from a host that somebody
    else configured: a rule is left out when a variable it needs is missing or
    no whole number, or when it depends on a ``worker_class`` not given.
    ``names`` maps variables to what texts shall call them.
    """
    numbers = {
        key: value
        for key, value in values.items()
        if isinstance(value, int) and not isinstance(value, bool)
    }
    called = {key: key for key in (*BUDGETS, *CHAIN)}
    called.update(names or {})
    worker_class = values.get(WORKER_CLASS)
    return [
        rule.evaluate(numbers, called)
        for rule in RULES
        if rule.applies(numbers, worker_class)
    ]


def derive_chain(
    budgets: Mapping[str, object], overrides: Mapping[str, object]
) -> Dict[str, int]:
    """Derive every timeout and limit of the chain from the budgets.

    An override replaces one value of the chain, and what follows from that
    value follows the override. Raises ChainError, naming every unusable
    variable, or else every inequality that does not hold.
    """
    values, fixed = _read_input(budgets, overrides)
    for key, link in CHAIN.items():
        values[key] = fixed[key] if key in fixed else link.formula(values)
    names = {key: _user_name(key, fixed) for key in values}
    checked = check_chain({**values, WORKER_CLASS: budgets[WORKER_CLASS]}, names)
    broken = [inequality for inequality in checked if not inequality.holds]
    if broken:
        raise ChainError(_explain(broken, values, fixed))
    return {key: values[key] for key in CHAIN}


def _read_input(
    budgets: Mapping[str, object], overrides: Mapping[str, object]
) -> Tuple[Dict[str, int], Dict[str, int]]:
    """Return the numbers in both; ChainError names all that is unusable."""
    problems = [
        f"{VARIABLE_PREFIX}{key} is missing; give it a value."
        for key in (*BUDGETS, WORKER_CLASS)
        if key not in budgets
    ]
    if WORKER_CLASS in budgets:
        try:
            check_worker_class(budgets[WORKER_CLASS])
        except ChainError as error:
            problems.append(str(error))
    numeric = {key: value for key, value in budgets.items() if key != WORKER_CLASS}
    values, unusable = _read(numeric, BUDGETS, VARIABLE_PREFIX)
    problems += unusable
    allowed = {key: link.bounds for key, link in CHAIN.items()}
    fixed, unusable = _read(overrides, allowed, OVERRIDES_VARIABLE + ".")
    problems += unusable
    if problems:
        raise ChainError("\n".join(problems))
    return values, fixed


def _read(
    given: Mapping[str, object], allowed: Mapping[str, Bounds], prefix: str
) -> Tuple[Dict[str, int], List[str]]:
    """Return the usable numbers, and a sentence for each entry that is not."""
    numbers: Dict[str, int] = {}
    problems: List[str] = []
    for key, value in given.items():
        if key not in allowed:
            problems.append(_unknown(key, allowed, prefix))
            continue
        number = _whole_number(value)
        least, greatest = allowed[key]
        if number is None or not least <= number <= greatest:
            timed = key.endswith("_s") and not key.endswith("_per_s")
            problems.append(
                f"{prefix}{key} is {value!r}; it must be a whole number"
                f"{' of seconds' if timed else ''} from {least} to {greatest}."
            )
        else:
            numbers[key] = number
    return numbers, problems


def _whole_number(value: object) -> Optional[int]:
    # Extra variables of the command line (-e name=30) arrive as text.
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return None


def _unknown(key: object, allowed: Iterable[str], prefix: str) -> str:
    close = get_close_matches(str(key), list(allowed), n=1)
    if close:
        return f"{prefix}{key} is unknown; did you mean {prefix}{close[0]}?"
    return f"{prefix}{key} is unknown; known are {', '.join(sorted(allowed))}."


def _user_name(key: str, overrides: Numbers) -> str:
    """Return what the user calls a value; a derived one has its chain's name."""
    if key in overrides:
        return f"{OVERRIDES_VARIABLE}.{key}"
    return VARIABLE_PREFIX + key if key in BUDGETS else key


def _origins(key: str, overrides: Numbers) -> List[str]:
    """Return the budgets and overrides that a value follows from."""
    if key in overrides or key in BUDGETS:
        return [key]
    origins: List[str] = []
    for source in CHAIN[key].sources:
        origins += [o for o in _origins(source, overrides) if o not in origins]
    return origins


def _explain(broken: List[Inequality], values: Numbers, overrides: Numbers) -> str:
    def assigned(key: str) -> str:
        return f"{_user_name(key, overrides)} = {values[key]}"

    def traced(key: str) -> str:
        origins = _origins(key, overrides)
        if origins == [key]:
            return assigned(key)
        return f"{assigned(key)} (from {', '.join(map(assigned, origins))})"

    return "\n".join(
        f"The timeouts contradict each other ({inequality.rule}):"
        f" {inequality.relation} does not hold ({inequality.left} against"
        f" {inequality.right}), where"
        f" {', '.join(map(traced, inequality.variables))};"
        f" {inequality.why}. To fix it, {inequality.fix}."
        for inequality in broken
    )
