# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which inequalities must hold between the values of a chain of timeouts.

What is said here of nginx was read in its source from 1.22 to 1.31, of
Gunicorn in 27.0.1, of Uvicorn in 0.54.0 and uvicorn-worker 0.4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from string import Formatter
from typing import Callable, List, Mapping, NamedTuple, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_links import (
    BUDGETS,
    CHAIN,
    MARGIN_S,
    MAX_NOFILE,
    NATIVE_ASGI_BACKLOG,
    STOP_SLACK_S,
    Formula,
    Numbers,
    last_use_s,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.worker_class import (
    WORKER_CLASS,
    is_native_asgi,
    is_uvicorn,
    lingers,
)


class Side(NamedTuple):
    """One side of an inequality: as text with {variables}, and as a number."""

    text: str
    value: Formula


def _just(variable: str) -> Side:
    return Side(f"{{{variable}}}", itemgetter(variable))


def _with_margin(variable: str) -> Side:
    return Side(f"{{{variable}}} + {MARGIN_S}", lambda v: v[variable] + MARGIN_S)


# How long nobody serves while the app restarts, and what arrives in that time.
_RESTART = Side(
    "{app_graceful_s} + {start_timeout_s}",
    lambda v: v["app_graceful_s"] + v["start_timeout_s"],
)
_QUEUED = Side(
    "{peak_requests_per_s} * ({app_graceful_s} + {start_timeout_s})",
    lambda v: v["peak_requests_per_s"] * _RESTART.value(v),
)


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
        _with_margin("client_idle_s"),
        "<=",
        _just("client_keepalive_s"),
        "the client must close an idle connection before nginx does",
        "raise {client_keepalive_s} to at least {left} or lower {client_idle_s}",
    ),
    Rule(
        "upstream_idle",
        _with_margin("upstream_keepalive_s"),
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
        _with_margin("request_timeout_s"),
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
        _with_margin("upstream_keepalive_s"),
        "<=",
        _just("app_graceful_s"),
        "a lingering worker must outlive the connections nginx holds to it",
        "raise {app_graceful_s} to at least {left} or lower {upstream_keepalive_s}",
        workers=lingers,
    ),
    Rule(
        "linger_heartbeat",
        _with_margin("upstream_keepalive_s"),
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
        _RESTART,
        "<",
        _just("proxy_read_s"),
        "a request queued in the socket while the app restarts must not time out",
        "raise {proxy_read_s} above {left} or lower {app_graceful_s} or"
        " {start_timeout_s}",
    ),
    Rule(
        "restart_send",
        _RESTART,
        "<",
        _just("proxy_send_s"),
        "a body larger than the socket's buffer waits while the app restarts",
        "raise {proxy_send_s} above {left} or lower {app_graceful_s} or"
        " {start_timeout_s}",
    ),
    Rule(
        "restart_queue",
        _QUEUED,
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
        _QUEUED,
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
            lambda v: last_use_s(v) + MARGIN_S,
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
            lambda v: v["upstream_keepalive_time_s"] + last_use_s(v),
        ),
        "<=",
        _just("drain_timeout_s"),
        "a connection may idle and serve one more request when its lifetime ends,"
        " and the old slot must be empty by then",
        "raise {drain_timeout_s} to at least {left} or lower"
        " {upstream_keepalive_time_s}",
    ),
)


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
