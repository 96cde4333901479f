# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where nginx passes requests on to, and what it does to their connections.

A route is one ``proxy_pass`` with all that is in force where it stands; an
upstream is what it leads to. Defaults are those of the nginx that runs: read in
its source from 1.22 to 1.31, and in its documentation for what came when.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    Directive,
    walk,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_values import (
    Blocks,
    Variables,
    effective,
    parse_seconds,
)

Version = Tuple[int, ...]

# 1.29.7 (CHANGES): "keepalive 32 local", HTTP/1.1 and no Connection header.
KEEPALIVE_BY_DEFAULT: Version = (1, 29, 7)
_DEFAULT_POOL = 32
_HAS_TIMEOUT: Version = (1, 15, 3)
_HAS_TIME: Version = (1, 19, 10)
# Each replaces the balancer of the block, before 1.29.7 keepalive's too.
_BALANCERS = ("hash", "ip_hash", "least_conn", "least_time", "random")
_TARGET = re.compile(r"(https?)://(unix:[^:]+|\[[^\]]*\](?::\d+)?|[^/:?#]+(?::\d+)?)")


@dataclass(frozen=True)
class Upstream:
    """An ``upstream`` block, or what stands for one in a ``proxy_pass``."""

    name: str
    implicit: bool
    servers: Tuple[str, ...]
    # Those that a failed connection marks as down; max_fails=0 leaves out the others.
    fallible: Tuple[str, ...]
    pool: int
    pool_is_default: bool
    keepalive_timeout_s: Optional[float]
    keepalive_time_s: Optional[float]
    keepalive_requests: Optional[int]
    # A balancing method that stands after keepalive and so turns it off.
    overridden_by: str = ""


@dataclass(frozen=True)
class Route:
    """One ``proxy_pass`` and what is in force there.

    ``connection`` is the header sent for an ordinary request: empty for none,
    None where that cannot be told. ``connection_directive`` is its value as
    written, None without one. ``dropped`` are headers set outside, which those
    set in the innermost block discard.
    """

    server: str
    location: str
    file: str
    upstream: str
    http_version: str
    connection: Optional[str]
    connection_directive: Optional[str]
    connection_mapped: bool
    dropped: Tuple[str, ...]
    forwarded_for: str
    next_upstream: Tuple[str, ...]
    proxy_connect_timeout_s: float
    proxy_send_timeout_s: float
    proxy_read_timeout_s: float
    client_keepalive_timeout_s: float
    tls: bool
    ssl_session_cache: str
    ssl_session_tickets: bool

    @property
    def kept_alive(self) -> Optional[bool]:
        """Tell whether the app may keep the connection; None if it is unknown.

        HTTP/1.0 closes unless asked not to; nginx reuses what the response left
        open (ngx_http_proxy_process_status_line).
        """
        if self.connection is None:
            return None
        tokens = [token.strip().lower() for token in self.connection.split(",")]
        if self.http_version == "1.0":
            return "keep-alive" in tokens
        return "close" not in tokens


def parse_target(text: str) -> Optional[Tuple[str, str]]:
    """Return scheme and address of a ``proxy_pass``, without its URI."""
    match = _TARGET.match(text)
    return (match.group(1), match.group(2)) if match else None


def _with_port(address: str, scheme: str = "http") -> str:
    if address.startswith("unix:") or re.search(r"[^:]:\d+$|\]:\d+$", address):
        return address
    return "{0}:{1}".format(address, 443 if scheme == "https" else 80)


def _number(block: Directive, name: str) -> Optional[int]:
    found = block.children(name)
    text = found[-1].args[0] if found and found[-1].args else ""
    return int(text) if text.isdigit() else None


def _seconds(block: Directive, name: str, default: float) -> float:
    found = block.children(name)
    value = parse_seconds(found[-1].args[0]) if found and found[-1].args else None
    return default if value is None else value


def _overriding(block: Directive, version: Version) -> str:
    """Return a balancing method after ``keepalive``, which then is off.

    Each sets peer.init_upstream, as keepalive did until 1.29.7.
    """
    if version >= KEEPALIVE_BY_DEFAULT:
        return ""
    names = [each.name for each in block.block or ()]
    after = names[names.index("keepalive") :] if "keepalive" in names else []
    return next((name for name in after if name in _BALANCERS), "")


def _limits(version: Version, block: Directive) -> Dict[str, Optional[float]]:
    """Return how long a connection may idle and live, and its requests."""
    requests = _number(block, "keepalive_requests")
    default = 1000 if version >= _HAS_TIME else 100
    return {
        "keepalive_timeout_s": (
            _seconds(block, "keepalive_timeout", 60)
            if version >= _HAS_TIMEOUT
            else None
        ),
        "keepalive_time_s": (
            _seconds(block, "keepalive_time", 3600) if version >= _HAS_TIME else None
        ),
        "keepalive_requests": (
            (default if requests is None else requests)
            if version >= _HAS_TIMEOUT
            else None
        ),
    }


def _named(block: Directive, version: Version) -> Upstream:
    pool = _number(block, "keepalive")
    default = _DEFAULT_POOL if version >= KEEPALIVE_BY_DEFAULT else 0
    limits = _limits(version, block)
    requests = limits["keepalive_requests"]
    servers = [
        each
        for each in block.children("server")
        if each.args and "down" not in each.args
    ]
    return Upstream(
        name=block.args[0],
        implicit=False,
        servers=tuple(_with_port(each.args[0]) for each in servers),
        fallible=tuple(
            _with_port(each.args[0])
            for each in servers
            if "max_fails=0" not in each.args
        ),
        pool=default if pool is None else pool,
        pool_is_default=pool is None,
        keepalive_timeout_s=limits["keepalive_timeout_s"],
        keepalive_time_s=limits["keepalive_time_s"],
        keepalive_requests=None if requests is None else int(requests),
        overridden_by=_overriding(block, version),
    )


def _implicit(scheme: str, address: str) -> Upstream:
    # "skip implicit upstreams": ngx_http_upstream_keepalive_module.c, at any version.
    name = _with_port(address, scheme)
    return Upstream(name, True, (name,), (name,), 0, True, None, None, None)


class Proxying:
    """The routes and upstreams of one configuration."""

    def __init__(self, tree: List[Directive], version: Version) -> None:
        self.version = version
        self.upstreams: Dict[str, Upstream] = {}
        self.routes: List[Route] = []
        # Of routes whose target is known only when a request comes.
        self.unknown_targets: List[str] = []
        self._variables = Variables(tree)
        self._blocks = {
            each.args[0].lower(): each
            for blocks, each in walk(tree)
            if each.name == "upstream" and each.args and _within_http(blocks)
        }
        for blocks, each in walk(tree):
            if each.name == "proxy_pass" and each.args and _within_http(blocks):
                self._add(blocks, each)

    def _add(self, blocks: Blocks, proxy_pass: Directive) -> None:
        written = proxy_pass.args[0]
        text = self._variables.resolve(written, blocks)
        target = parse_target(text) if text is not None else None
        if target is None:
            where = "{0}, {1}".format(server_label(blocks), location_label(blocks))
            self.unknown_targets.append(where)
            return
        block = self._blocks.get(target[1].lower())
        found = _named(block, self.version) if block else _implicit(*target)
        self.upstreams[found.name] = found
        self.routes.append(self._route(blocks, proxy_pass.file, found.name))

    def _route(self, blocks: Blocks, file: str, upstream: str) -> Route:
        headers, dropped = _request_headers(blocks)
        directive = headers.get("connection")
        return Route(
            server=server_label(blocks),
            location=location_label(blocks),
            file=file,
            upstream=upstream,
            http_version=self._http_version(blocks),
            connection=self._connection(directive, blocks),
            connection_directive=directive,
            connection_mapped=self._variables.uses_map(directive or ""),
            dropped=dropped,
            forwarded_for=headers.get("x-forwarded-for", ""),
            next_upstream=tuple(_words(blocks, "proxy_next_upstream")),
            proxy_connect_timeout_s=_time(blocks, "proxy_connect_timeout", 60),
            proxy_send_timeout_s=_time(blocks, "proxy_send_timeout", 60),
            proxy_read_timeout_s=_time(blocks, "proxy_read_timeout", 60),
            client_keepalive_timeout_s=_time(blocks, "keepalive_timeout", 75),
            tls=_serves_tls(blocks),
            ssl_session_cache=" ".join(_words(blocks, "ssl_session_cache")) or "none",
            ssl_session_tickets=_words(blocks, "ssl_session_tickets") != ["off"],
        )

    def _http_version(self, blocks: Blocks) -> str:
        default = "1.1" if self.version >= KEEPALIVE_BY_DEFAULT else "1.0"
        return (_words(blocks, "proxy_http_version") or [default])[0]

    def _connection(self, directive: Optional[str], blocks: Blocks) -> Optional[str]:
        """Return the header sent; nginx sends none for an empty value."""
        if directive is None:
            # ngx_http_proxy_headers: "close" up to 1.29.6.
            return "" if self.version >= KEEPALIVE_BY_DEFAULT else "close"
        return self._variables.resolve(directive, blocks)


def _within_http(blocks: Blocks) -> bool:
    """Tell HTTP from ``stream``, which has directives of the same names."""
    return bool(blocks) and blocks[0].name == "http"


def _words(blocks: Blocks, name: str) -> List[str]:
    found = effective(blocks, name)
    return found.args if found else []


def _time(blocks: Blocks, name: str, default: float) -> float:
    words = _words(blocks, name)
    value = parse_seconds(words[0]) if words else None
    return default if value is None else value


def _headers_of(block: Directive) -> Dict[str, str]:
    return {
        each.args[0].lower(): each.args[1]
        for each in block.children("proxy_set_header")
        if len(each.args) > 1
    }


def _request_headers(blocks: Blocks) -> Tuple[Dict[str, str], Tuple[str, ...]]:
    """Return the headers set for the app, and the names of those discarded.

    A block's own proxy_set_header replace all that were set outside of it
    (ngx_http_proxy_merge_loc_conf: headers_source).
    """
    levels = [found for found in map(_headers_of, reversed(blocks)) if found]
    if not levels:
        return {}, ()
    outside: Iterable[str] = levels[1] if len(levels) > 1 else ()
    return levels[0], tuple(name for name in outside if name not in levels[0])


def _serves_tls(blocks: Blocks) -> bool:
    server = next((block for block in blocks if block.name == "server"), None)
    return server is not None and any(
        "ssl" in each.args for each in server.children("listen")
    )


def server_label(blocks: Blocks) -> str:
    """Return what a person calls the server: its first name, or its port."""
    server = next((block for block in blocks if block.name == "server"), None)
    for directive in ("server_name", "listen"):
        found = server.children(directive) if server else []
        if found and found[0].args and found[0].args[0]:
            return "server {0}".format(found[0].args[0])
    return "server"


def location_label(blocks: Blocks) -> str:
    """Return the location as written, with an ``if`` around the proxy_pass."""
    inner = [block for block in blocks if block.name not in ("http", "server")]
    return " ".join(" ".join(block.words) for block in inner) or "no location"
