# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an app, its server and its unit stands in the way of kept connections.

GU is Gunicorn 27.0.1, UV Uvicorn 0.54.0, UW uvicorn-worker 0.4.0. The order of
timeouts and limits is the chain's affair.
"""

from __future__ import annotations

import math
import os
from typing import Callable, Dict, Iterator, List, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.app_command import (
    FASTAPI,
    GUNICORN,
    UVICORN,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_links import (
    NATIVE_ASGI_BACKLOG,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_rules import (
    Inequality,
    check_chain,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.hop import (
    ERROR,
    INFO,
    WARNING,
    App,
    Finding,
    Hop,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.worker_class import (
    is_native_asgi,
    is_uvicorn,
    refusal,
)

# What a chain that does not hold costs, where it is not a warning.
_CHAIN_SEVERITY = {
    "upstream_idle": ERROR,
    # What a worker does when it stops was read of Uvicorn's and Gunicorn's asgi
    # alone; the chain asks it of every other.
    "linger_graceful": INFO,
}


def _absent(hop: Hop, app: App) -> Iterator[Finding]:
    """Find an address that nobody serves."""
    if app.process is not None:
        return
    if app.listener.by_systemd:
        yield hop.find(
            "app_not_running",
            WARNING,
            "systemd holds {0} and no service serves it; requests wait in its "
            "queue".format(app.address),
            "start the service and see its log",
        )
    elif app.is_local:
        yield hop.find(
            "nobody_listens",
            ERROR,
            "nobody listens at {0}, so nginx answers 502".format(app.address),
            "start the app, or correct the address",
        )


def _unread(hop: Hop, app: App) -> Iterator[Finding]:
    """Find an app whose settings are not known, or not all of them."""
    if app.process is not None and app.settings is None:
        yield hop.find(
            "app_unknown",
            INFO,
            "{0} is served by {1}, whose settings are not read here".format(
                app.address, app.server or os.path.basename(app.process.exe)
            ),
            "see that it keeps idle connections 5 s longer than nginx does",
        )
    elif app.settings and app.settings_unread:
        yield hop.find(
            "app_settings_unread",
            INFO,
            "Gunicorn's loader did not tell its settings ({0}); only what its "
            "command line says is known".format(app.settings_unread),
            "see keepalive and graceful_timeout in {0}".format(
                app.settings.config_file or "its configuration"
            ),
        )


def _age(hop: Hop, app: App) -> Iterator[Finding]:
    """Find what is written and not in force."""
    if app.config_is_newer and app.settings:
        yield hop.find(
            "app_config_newer",
            WARNING,
            "{0} was written after the app started, so the settings told here may "
            "not be in force".format(app.settings.config_file),
            "restart the service, {0}".format(
                app.process.unit if app.process and app.process.unit else app.server
            ),
        )
    if app.unit and app.unit.get("NeedDaemonReload") == "yes" and app.process:
        yield hop.find(
            "unit_changed",
            WARNING,
            "the unit {0} was changed on disk and is not in force".format(
                app.process.unit
            ),
            "systemctl daemon-reload, then restart it",
        )


def _worker(hop: Hop, app: App) -> Iterator[Finding]:
    """Judge the worker class: GU/workers, UW."""
    if not app.settings or app.server != GUNICORN:
        return
    worker, backlog = app.settings.worker_class, app.settings.backlog or 0
    reason = refusal(worker) if worker else None
    if reason and _ignores_keepalive(worker):
        yield hop.find(
            "worker_sync",
            hop.worst,
            "Gunicorn's worker class is {0}, {1}".format(worker, reason),
            "start Gunicorn with '-k uvicorn_worker.UvicornWorker'",
        )
    elif reason and is_uvicorn(worker):
        yield hop.find(
            "worker_deprecated",
            WARNING,
            "Gunicorn's worker class is {0}, {1}".format(worker, reason),
            "pip install uvicorn-worker and start Gunicorn with '-k {0}'".format(
                worker.replace("uvicorn.workers.", "uvicorn_worker.", 1)
            ),
        )
    if is_native_asgi(worker) and backlog > NATIVE_ASGI_BACKLOG:
        yield hop.find(
            "asgi_backlog",
            INFO,
            "Gunicorn's asgi worker listens with a backlog of {0}, whatever it is "
            "given".format(NATIVE_ASGI_BACKLOG),
            "use a Uvicorn worker where bursts are longer",
        )


def _ignores_keepalive(worker: str) -> bool:
    return worker == "sync" or worker.startswith("gunicorn.workers.sync.")


def _recycle(hop: Hop, app: App) -> Iterator[Finding]:
    """Find recycled workers: UV/server.py, shutdown closes idle connections."""
    if not app.settings or not app.settings.max_requests:
        return
    if app.server != GUNICORN or is_uvicorn(app.settings.worker_class):
        yield hop.find(
            "recycle_drops_connections",
            WARNING,
            "a Uvicorn worker that leaves after max_requests ({0}) closes the "
            "connections nginx holds to it, and a POST under way there is a "
            "502".format(app.settings.max_requests),
            "set max_requests to 0, or use Gunicorn's asgi worker (27.0.1 or newer)",
        )


def _unit(hop: Hop, app: App) -> Iterator[Finding]:
    """Judge how a stop kills: systemd.kill(5); GU/arbiter.py stops its workers."""
    mode = (app.unit or {}).get("KillMode", "")
    if mode in ("process", "none", "control-group") and app.process:
        leaving = mode != "control-group"
        yield hop.find(
            "kill_mode",
            WARNING if leaving else INFO,
            "KillMode of {0} is {1}: {2}".format(
                app.process.unit,
                mode,
                "workers may outlive a stop"
                if leaving
                else "a stop signals the workers beside their master",
            ),
            "put 'KillMode=mixed' in the unit",
        )


def _queueing(hop: Hop, app: App) -> Dict[str, Optional[object]]:
    """Return what matters where systemd holds the socket.

    Only there requests queue while the app restarts.
    """
    reads = [each.proxy_read_timeout_s for each in hop.routes]
    sends = [each.proxy_send_timeout_s for each in hop.routes]
    return {
        "start_timeout_s": app.start_s,
        "proxy_read_s": math.floor(min(reads)),
        "proxy_send_s": math.floor(min(sends)),
    }


def chain_values(hop: Hop, app: App) -> Dict[str, object]:
    """Return what is known of the chain on this host, by the chain's names."""
    settings, upstream = app.settings, hop.upstream
    if settings is None or app.process is None:
        return {}
    # An implicit upstream would have nginx's default if it kept anything.
    idle = upstream.keepalive_timeout_s
    values: Dict[str, Optional[object]] = {
        "upstream_keepalive_s": math.ceil(60 if idle is None else idle),
        "app_keepalive_s": settings.keepalive_s,
        "app_graceful_s": settings.graceful_timeout_s,
        "systemd_stop_s": app.stop_s,
        "backlog": settings.backlog,
        "somaxconn": hop.somaxconn,
        "workers": settings.workers,
        "app_max_requests": settings.max_requests,
        "nginx_workers": hop.nginx_workers,
        "upstream_keepalive_pool": upstream.pool,
        # Not fewer than there are now.
        "concurrent_requests": app.listener.connections,
        "limit_nofile": app.process.nofile or None,
        "worker_class": settings.worker_class or None,
    }
    if app.server == GUNICORN:
        values["app_heartbeat_s"] = settings.timeout_s
    if app.listener.by_systemd:
        values.update(_queueing(hop, app))
    if _ignores_keepalive(settings.worker_class):
        del values["app_keepalive_s"], values["worker_class"]
    return {name: value for name, value in values.items() if value is not None}


def _names(hop: Hop, app: App) -> Dict[str, str]:
    """Return what a person finds each value of the chain under."""
    keepalive = {
        GUNICORN: "Gunicorn's keepalive",
        UVICORN: "Uvicorn's --timeout-keep-alive",
        FASTAPI: "the keep-alive of 'fastapi run' (fixed; uvicorn has an option)",
    }.get(app.server, "the app's keepalive")
    unit = app.process.unit if app.process else ""
    return {
        "upstream_keepalive_s": "keepalive_timeout of {0}".format(
            "an upstream block (60 by default)"
            if hop.upstream.implicit
            else hop.upstream.name
        ),
        "app_keepalive_s": keepalive,
        "app_graceful_s": "graceful_timeout",
        "app_heartbeat_s": "Gunicorn's timeout",
        "systemd_stop_s": "TimeoutStopSec of {0}".format(unit),
        "start_timeout_s": "TimeoutStartSec of {0}".format(unit),
        "limit_nofile": "LimitNOFILE of {0}".format(unit),
        "proxy_read_s": "proxy_read_timeout",
        "proxy_send_s": "proxy_send_timeout",
        "app_max_requests": "max_requests",
        "upstream_keepalive_pool": "keepalive of {0}".format(hop.upstream.name),
        "concurrent_requests": "connections now",
        "nginx_workers": "nginx's workers",
        "nginx_worker_connections": "nginx's worker_connections",
        "somaxconn": "net.core.somaxconn",
    }


def check_hop(hop: Hop, app: App) -> List[Inequality]:
    """Return every inequality of the chain that can be told of this app."""
    return check_chain(chain_values(hop, app), _names(hop, app))


def _chain(hop: Hop, app: App) -> Iterator[Finding]:
    for each in check_hop(hop, app):
        if each.holds:
            continue
        severity = _CHAIN_SEVERITY.get(each.rule, WARNING)
        reason = "{0} does not hold ({1} against {2}): {3}".format(
            each.relation, each.left, each.right, each.why
        )
        if each.rule == "upstream_idle" and not hop.kept_alive:
            severity = WARNING
            reason += "; this costs requests as soon as connections are kept"
        elif each.rule == "upstream_idle":
            reason += ", or a request that meets the close is a 502"
        yield hop.find(each.rule, severity, reason, each.fix)


APP_RULES: Sequence[Callable[[Hop, App], Iterator[Finding]]] = (
    _absent,
    _unread,
    _age,
    _worker,
    _recycle,
    _unit,
    _chain,
)
