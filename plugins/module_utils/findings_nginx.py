# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of nginx's configuration stands in the way of kept-alive connections.

Read in nginx's source (src/http) from 1.22 to 1.31, and in Uvicorn 0.54.0.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterator, List, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.hop import (
    ERROR,
    INFO,
    WARNING,
    Finding,
    Hop,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.listeners import (
    is_same_server,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_routes import (
    KEEPALIVE_BY_DEFAULT,
    Route,
)

_REUSE = 'proxy_http_version 1.1; proxy_set_header Connection "";'


def _implicit(hop: Hop) -> Iterator[Finding]:
    """Find a target that is no block: ngx_http_upstream_keepalive_module.c."""
    if hop.upstream.implicit:
        name = hop.upstream.name
        yield hop.find(
            "upstream_implicit",
            hop.worst,
            "proxy_pass names {0} itself, and nginx keeps connections only to an "
            "upstream block, so every request is a connection".format(name),
            "put 'upstream NAME {{ server {0}; keepalive 32; }}' beside the server, "
            "and 'proxy_pass http://NAME;' in the location".format(name),
        )


def _pool(hop: Hop) -> Iterator[Finding]:
    """Find a pool of none: ngx_http_upstream_keepalive_module.c."""
    upstream = hop.upstream
    if upstream.pool or upstream.implicit:
        return
    cause, where = "says 'keepalive 0'", ""
    if upstream.pool_is_default:
        cause = "has no 'keepalive', which is off by default before nginx 1.29.7"
        where = ", after its servers and balancing method"
    yield hop.find(
        "upstream_pool_zero",
        hop.worst,
        "upstream {0} {1}, so every request is a connection".format(
            upstream.name, cause
        ),
        "put 'keepalive 32;' in the block{0}".format(where),
    )


def _balancer(hop: Hop) -> Iterator[Finding]:
    """Find a balancer in the way: peer.init_upstream, which both set to 1.29.6."""
    upstream = hop.upstream
    if upstream.overridden_by:
        yield hop.find(
            "balancer_after_keepalive",
            hop.worst,
            "'{0}' stands after 'keepalive' in upstream {1} and replaces it (nginx "
            "before 1.29.7)".format(upstream.overridden_by, upstream.name),
            "move 'keepalive' below '{0}'".format(upstream.overridden_by),
        )


def _defaults(hop: Hop) -> Iterator[Finding]:
    """Find a pool by default: keepalive_init_main_conf, since 1.29.7."""
    if hop.upstream.pool and hop.upstream.pool_is_default:
        yield hop.find(
            "keepalive_by_default",
            INFO,
            "upstream {0} keeps 32 connections a worker because nginx is 1.29.7 or "
            "newer; locations do not share them, and an older nginx would keep "
            "none".format(hop.upstream.name),
            "put 'keepalive 32;' in the block to share them and to say so",
        )


def _http_version(hop: Hop) -> Iterator[Finding]:
    """Find HTTP/1.0: ngx_http_proxy_module.c, the default to 1.29.6."""
    old = [
        each
        for each in hop.routes
        if each.http_version == "1.0" and not each.kept_alive
    ]
    if old:
        yield hop.find(
            "http_1_0",
            hop.worst,
            "nginx speaks HTTP/1.0 to the app, which closes after every response{0}"
            "".format(
                " (its default before 1.29.7)"
                if hop.version < KEEPALIVE_BY_DEFAULT
                else ""
            ),
            "put 'proxy_http_version 1.1;' in the server or location",
            old,
        )


def _close_cause(route: Route) -> str:
    if route.connection_directive is None:
        dropped = "connection" in route.dropped
        return "connection_header_dropped" if dropped else "connection_close_default"
    return "connection_map_close" if route.connection_mapped else "connection_close"


def _close(hop: Hop, cause: str, routes: Sequence[Route]) -> Finding:
    reason, fix = _CLOSE[cause]
    # Names of headers only: their values may be nobody's business.
    headers = ", ".join(routes[0].dropped)
    return hop.find(cause, hop.worst, reason, fix.format(_REUSE, headers), routes)


_CLOSE = {
    # ngx_http_proxy_module.c: headers_source is inherited as a whole or not at all.
    "connection_header_dropped": (
        (
            "a proxy_set_header in the location discards all that are set outside "
            "of it, Connection too, so nginx sends 'Connection: close'"
        ),
        "repeat all of them in the location ({1}), or move its own out",
    ),
    # ngx_http_proxy_module.c: ngx_http_proxy_headers, up to 1.29.6.
    "connection_close_default": (
        "nginx sends 'Connection: close' to the app, its default before 1.29.7",
        (
            "put '{0}' beside the location's own proxy_set_header, or in the server "
            "if it has none"
        ),
    ),
    # The example on nginx's page on WebSocket ends in '' close.
    "connection_map_close": (
        (
            "the map behind Connection gives 'close' to a request that asks for no "
            "upgrade, which is every ordinary one"
        ),
        'let the map say: default ""; "~*^websocket$" upgrade;',
    ),
    "connection_close": (
        "nginx is told to send 'Connection: close' to the app",
        "put '{0}' in its place",
    ),
}


def _connection(hop: Hop) -> Iterator[Finding]:
    """Find a Connection header that ends the connection: RFC 9112, section 9.6."""
    closing: Dict[str, List[Route]] = {}
    for route in hop.routes:
        tokens = (route.connection or "").lower().replace(" ", "").split(",")
        if "close" in tokens:
            closing.setdefault(_close_cause(route), []).append(route)
    for identity, routes in closing.items():
        yield _close(hop, identity, routes)


def _connection_doubtful(hop: Hop) -> Iterator[Finding]:
    """Find a Connection header that is the client's, or that cannot be told."""
    unknown = [each for each in hop.routes if each.connection is None]
    if unknown:
        yield hop.find(
            "connection_unknown",
            INFO,
            "the value of Connection depends on the request in a way that is not "
            "followed here ({0})".format(unknown[0].connection_directive),
            "see that it is empty for an ordinary request",
            unknown,
        )
    passed = [
        each
        for each in hop.routes
        if "$http_connection" in (each.connection_directive or "")
    ]
    if passed:
        yield hop.find(
            "connection_from_client",
            WARNING,
            "the client's own Connection header is passed on, so one that says "
            "'close' ends the connection to the app",
            "put '{0}' in its place".format(_REUSE),
            passed,
        )


def _dropped(hop: Hop) -> Iterator[Finding]:
    """Find inherited headers that are gone: ngx_http_proxy_module.c, headers_source."""
    losing = [each for each in hop.routes if each.dropped]
    if losing:
        names = dict.fromkeys(name for each in losing for name in each.dropped)
        yield hop.find(
            "headers_dropped",
            INFO,
            "a proxy_set_header in the location discards those set outside of it: "
            "{0}".format(", ".join(names)),
            "repeat in the location those that the app needs",
            losing,
        )


def is_listed_again(server: str, servers: Sequence[str]) -> bool:
    """Tell whether another line names the same server, maybe by another path."""
    return sum(is_same_server(server, each) for each in servers) > 1


def _peers(hop: Hop) -> Iterator[Finding]:
    """Find peers that fail together: ngx_http_upstream_round_robin.c.

    max_fails counts where there is more than one, so that nginx may take all
    for dead, "no live upstreams", at one failure each.
    """
    servers = hop.upstream.fallible
    twice = sorted({each for each in servers if is_listed_again(each, servers)})
    if twice:
        yield hop.find(
            "socket_twice",
            ERROR,
            "{0} is listed twice in upstream {1}: one failed connection marks it as "
            "down, two make nginx answer 502 without asking it".format(
                ", ".join(twice), hop.upstream.name
            ),
            "leave one 'server' line for it, or give each max_fails=0",
        )
    for server, addresses in hop.peers.items():
        if server not in servers:
            continue
        if server.startswith("localhost:") and len(addresses) > 1:
            yield hop.find(
                "localhost_two_peers",
                WARNING,
                "{0} is two servers for nginx ({1}), so failed connections mark "
                "them as down".format(server, " and ".join(addresses)),
                "name the one address that the app listens at",
            )


def _client(hop: Hop) -> Iterator[Finding]:
    """Look at the clients' side: ngx_http_core_module.c, ngx_http_ssl_module.c."""
    closing = [each for each in hop.routes if each.client_keepalive_timeout_s == 0]
    if closing:
        yield hop.find(
            "client_keepalive_off",
            WARNING,
            "keepalive_timeout is 0, so every request of a client is a connection, "
            "and a handshake where it is TLS",
            "put 'keepalive_timeout 75s;' in the server",
            closing,
        )
    forgetting = [
        each
        for each in hop.routes
        if each.tls and each.ssl_session_cache in ("none", "off")
    ]
    if forgetting:
        tickets = all(each.ssl_session_tickets for each in forgetting)
        yield hop.find(
            "tls_sessions_not_cached",
            INFO if tickets else WARNING,
            "ssl_session_cache is 'none', its default, so {0}".format(
                "TLS sessions are resumed by tickets alone"
                if tickets
                else "no client that comes back resumes its TLS session"
            ),
            "put 'ssl_session_cache shared:SSL:10m;' in the http block",
            forgetting,
        )


def _retries(hop: Hop) -> Iterator[Finding]:
    """Find retries that harm: ngx_http_upstream.c, ngx_http_upstream_next."""
    replaying = [each for each in hop.routes if "non_idempotent" in each.next_upstream]
    if replaying:
        yield hop.find(
            "retries_repeat_posts",
            WARNING,
            "proxy_next_upstream has 'non_idempotent', so a POST that the app may "
            "have acted on is sent again",
            "remove 'non_idempotent'; a chain that holds has no need of it",
            replaying,
        )
    never = [each for each in hop.routes if each.next_upstream == ("off",)]
    if never:
        yield hop.find(
            "retries_off",
            INFO,
            "proxy_next_upstream is off, so nginx does not repeat even a GET whose "
            "kept connection the app has closed",
            "remove it; the default repeats nothing that may not be made twice",
            never,
        )


def _forwarded(hop: Hop) -> Iterator[Finding]:
    """Find forged addresses: UV/middleware/proxy_headers.py, "*" takes the first."""
    trusting = [
        app
        for app in hop.apps
        if app.settings
        and "*" in (app.settings.forwarded_allow_ips or "").replace(" ", "").split(",")
    ]
    appending = [
        each
        for each in hop.routes
        if "$proxy_add_x_forwarded_for" in each.forwarded_for
    ]
    if trusting and appending:
        yield hop.find(
            "forwarded_for_forged",
            WARNING,
            "nginx appends to the client's X-Forwarded-For and the app believes "
            "its leftmost address, so a client can name any as its own",
            "put 'proxy_set_header X-Forwarded-For $remote_addr;' in its place",
            appending,
        )


NGINX_RULES: Sequence[Callable[[Hop], Iterator[Finding]]] = (
    _implicit,
    _pool,
    _balancer,
    _defaults,
    _http_version,
    _connection,
    _connection_doubtful,
    _dropped,
    _peers,
    _client,
    _retries,
    _forwarded,
)
