# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what is in force between nginx and the apps of a host, and judge it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.app_command import (
    FASTAPI,
    GUNICORN,
    UVICORN,
    Command,
    Settings,
    uvicorn_settings,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.app_settings import (
    command_of,
    config_file,
    load_settings,
    start_folder,
    with_environ,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.findings_app import (
    APP_RULES,
    check_hop,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.findings_nginx import (
    NGINX_RULES,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.hop import (
    ERROR,
    INFO,
    WARNING,
    App,
    Finding,
    Hop,
    ordered,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.kernel import somaxconn
from ansible_collections.keepalive.fastapi.plugins.module_utils.listeners import (
    Listener,
    Sockets,
    is_own,
    is_same_server,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_process import (
    Nginx,
    read_nginx,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_routes import (
    KEEPALIVE_BY_DEFAULT,
    Proxying,
    Route,
    Upstream,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    Directive,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_values import (
    effective,
    parse_seconds,
    parse_version,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.process import (
    Process,
    is_newer,
    oldest_start_s,
    read_process,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    live_slot,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import (
    Systemd,
    parse_timespan_s,
)

_PROPERTIES = (
    "Environment",
    "EnvironmentFiles",
    "ExecStart",
    "KillMode",
    "NeedDaemonReload",
    "TimeoutStartUSec",
    "TimeoutStopUSec",
    "WorkingDirectory",
)
_LIVE_SOCKET = re.compile(r"unix:/run/([a-z][a-z0-9-]{0,30})/live\.sock")
# So many of each are returned; all of them are examined.
_MOST = 50


@dataclass(frozen=True)
class Request:
    """What the task asks for. ``name`` limits it to one service's upstreams."""

    name: str = ""
    binary: str = ""
    load_settings: bool = True


def examine(hop: Hop) -> List[Finding]:
    """Return all that is found on one hop."""
    found = [finding for rule in NGINX_RULES for finding in rule(hop)]
    for app in hop.apps:
        found += [finding for rule in APP_RULES for finding in rule(hop, app)]
    return found


class Survey:
    """Reads a host once; nothing on it is changed."""

    def __init__(
        self,
        request: Request,
        run: Runner,
        proc: Path = Path("/proc"),
        sockets: Optional[Sockets] = None,
    ) -> None:
        self._request, self._run, self._proc = request, run, proc
        self._sockets = sockets or Sockets(proc)
        self._somaxconn = somaxconn()

    def result(self) -> Dict[str, Any]:
        """Return the facts and the findings. Raises KeepaliveError."""
        nginx = read_nginx(self._request.binary, self._run, self._proc)
        proxying = Proxying(nginx.tree, parse_version(nginx.version))
        hops = [
            self._hop(upstream, proxying, nginx)
            for upstream in proxying.upstreams.values()
            if self._is_wanted(upstream)
        ]
        if self._request.name and not hops:
            raise KeepaliveError(
                "name: nginx passes nothing on to a socket in /run/{0}; deploy the "
                "service first, or leave 'name' out to see what nginx passes on "
                "to".format(self._request.name)
            )
        found = [finding for hop in hops for finding in examine(hop)]
        found += _nginx_findings(nginx)
        if not self._request.name:
            found += _target_findings(proxying)
        return {
            "nginx": _nginx_facts(nginx),
            "upstreams": [_facts(hop) for hop in hops[:_MOST]],
            "findings": [asdict(each) for each in ordered(found)],
        }

    def _is_wanted(self, upstream: Upstream) -> bool:
        prefix = "unix:{0}/".format(Layout(self._request.name or "any").run_dir)
        return not self._request.name or any(
            server.startswith(prefix) for server in upstream.servers
        )

    def _hop(self, upstream: Upstream, proxying: Proxying, nginx: Nginx) -> Hop:
        return Hop(
            upstream=upstream,
            routes=[each for each in proxying.routes if each.upstream == upstream.name],
            apps=[self._app(server) for server in _distinct(upstream.servers)],
            version=proxying.version,
            nginx_workers=len(nginx.workers) or 1,
            somaxconn=self._somaxconn,
            peers={
                server: [str(each) for each in self._sockets.addresses(server)]
                for server in upstream.servers
            },
        )

    def _app(self, server: str) -> App:
        listener = self._sockets.listener(server)
        addresses = self._sockets.addresses(server)
        service, slot = _slot(server)
        app = App(
            listener,
            is_local=server.startswith("unix:") or any(map(is_own, addresses)),
            service=service,
            live_slot=slot,
        )
        try:
            process = read_process(listener.master, self._proc)
        except OSError:
            return app
        unit = self._unit(process.unit)
        process, command = with_environ(process, unit), command_of(process, unit)
        app = replace(
            app,
            process=process,
            server=command.server if command else "",
            unit=unit,
            stop_s=parse_timespan_s(unit.get("TimeoutStopUSec", "")),
            start_s=parse_timespan_s(unit.get("TimeoutStartUSec", "")),
        )
        return self._with_settings(app, process, command, unit) if command else app

    def _with_settings(
        self, app: App, process: Process, command: Command, unit: Mapping[str, str]
    ) -> App:
        if command.server in (UVICORN, FASTAPI):
            return replace(
                app,
                settings=uvicorn_settings(
                    command.server, command.arguments, process.environ
                ),
            )
        if command.server != GUNICORN:
            return app
        folder = start_folder(process, unit)
        settings, unread = load_settings(
            process, command, folder, self._run if self._request.load_settings else None
        )
        path = config_file(command, process.environ, folder)
        return replace(
            app,
            settings=replace(settings, config_file=path),
            settings_unread=unread if self._is_incomplete(settings) else "",
            config_is_newer=self._is_newer(path, app.listener),
        )

    def _is_incomplete(self, settings: Settings) -> bool:
        """Tell whether it matters that Gunicorn's loader told nothing."""
        return self._request.load_settings or settings.keepalive_s is None

    def _is_newer(self, path: str, listener: Listener) -> bool:
        """Tell whether a configuration was written since it was last read.

        A reload (HUP) reads it and leaves the master, but none of its workers.
        """
        pids = listener.workers or (listener.master,)
        return bool(path) and is_newer(path, oldest_start_s(pids, self._proc))

    def _unit(self, unit: str) -> Dict[str, str]:
        if not unit:
            return {}
        try:
            return Systemd(self._run).show(unit, *_PROPERTIES)
        except KeepaliveError:
            return {}  # systemd does not run here, whatever the cgroup is called


def _distinct(servers: Iterable[str]) -> List[str]:
    """Return the servers without second names of the same socket."""
    found: List[str] = []
    for server in servers:
        if not any(is_same_server(server, each) for each in found):
            found.append(server)
    return found


def _slot(server: str) -> Tuple[str, str]:
    """Return the service and slot behind a socket that this collection made."""
    match = _LIVE_SOCKET.fullmatch(server)
    slot = live_slot(Layout(match.group(1))) if match else None
    return (match.group(1), slot) if match and slot else ("", "")


def _nginx_findings(nginx: Nginx) -> Iterator[Finding]:
    """Find what makes the configuration on disk another than the one in force."""
    if nginx.master is None:
        yield Finding(
            "nginx_not_running",
            ERROR,
            "nginx does not run; what is told here is what it would run by",
            "systemctl start nginx, and see its log",
        )
    if nginx.newer_files:
        yield Finding(
            "nginx_not_reloaded",
            WARNING,
            "{0} changed after nginx was last reloaded, so what is told here may "
            "not be in force".format(", ".join(nginx.newer_files[:3])),
            "systemctl reload nginx",
        )
    if nginx.was_replaced:
        yield Finding(
            "nginx_replaced",
            WARNING,
            "the nginx that runs ({0}) is no longer the one on disk".format(
                nginx.version
            ),
            "systemctl restart nginx, at a quiet moment",
        )


def _target_findings(proxying: Proxying) -> Iterator[Finding]:
    """Find what leads nowhere that can be told."""
    for where in proxying.unknown_targets:
        yield Finding(
            "target_unknown",
            INFO,
            "where proxy_pass leads depends on the request",
            "see that it names an upstream block; to any other, nginx keeps no "
            "connections",
            where=where,
        )
    if not proxying.routes and not proxying.unknown_targets:
        yield Finding(
            "no_upstream",
            INFO,
            "nginx passes no request on by proxy_pass",
            "point a location at the app",
        )


def _nginx_facts(nginx: Nginx) -> Dict[str, Any]:
    shutdown = effective((Directive(["main"], nginx.tree),), "worker_shutdown_timeout")
    return {
        "binary": nginx.binary,
        "version": nginx.version,
        "running": nginx.master is not None,
        "workers": len(nginx.workers),
        "keepalive_by_default": parse_version(nginx.version) >= KEEPALIVE_BY_DEFAULT,
        "worker_shutdown_timeout_s": (
            parse_seconds(shutdown.args[0]) if shutdown and shutdown.args else None
        ),
    }


def _facts(hop: Hop) -> Dict[str, Any]:
    """Return what a person wants to see of a hop, and no header but Connection."""
    upstream = hop.upstream
    return {
        "name": upstream.name,
        "implicit": upstream.implicit,
        "servers": list(upstream.servers),
        "kept_alive": hop.kept_alive,
        "keepalive_per_worker": upstream.pool,
        "keepalive_total": upstream.pool * hop.nginx_workers,
        "keepalive_is_default": upstream.pool_is_default,
        "keepalive_timeout_s": upstream.keepalive_timeout_s,
        "keepalive_time_s": upstream.keepalive_time_s,
        "keepalive_requests": upstream.keepalive_requests,
        "locations": [_location(route) for route in hop.routes[:_MOST]],
        "apps": [_app_facts(hop, app) for app in hop.apps[:_MOST]],
    }


def _location(route: Route) -> Dict[str, Any]:
    return {
        "server": route.server,
        "location": route.location,
        "file": route.file,
        "kept_alive": route.kept_alive,
        "http_version": route.http_version,
        "connection": route.connection,
        "connection_directive": route.connection_directive,
        "proxy_connect_timeout_s": route.proxy_connect_timeout_s,
        "proxy_send_timeout_s": route.proxy_send_timeout_s,
        "proxy_read_timeout_s": route.proxy_read_timeout_s,
        "client_keepalive_timeout_s": route.client_keepalive_timeout_s,
    }


def _app_facts(hop: Hop, app: App) -> Dict[str, Any]:
    process = app.process
    return {
        "address": app.address,
        "server": app.server,
        "pid": process.pid if process else None,
        "workers": (len(app.listener.workers) or 1) if process else 0,
        "connections": app.listener.connections,
        "socket_by_systemd": app.listener.by_systemd,
        "unit": process.unit if process else "",
        "kill_mode": (app.unit or {}).get("KillMode", ""),
        "stop_timeout_s": app.stop_s,
        "limit_nofile": process.nofile if process else None,
        "service": app.service,
        "live_slot": app.live_slot,
        "settings": asdict(app.settings) if app.settings else {},
        "chain": [
            {
                "rule": each.rule,
                "relation": each.relation,
                "left": each.left,
                "right": each.right,
                "holds": each.holds,
            }
            for each in check_hop(hop, app)
        ],
    }
