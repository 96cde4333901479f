# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_routes import (
    Proxying,
    Route,
    Upstream,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    load,
    parse,
)

FIXTURES = Path(__file__).parent / "fixtures/keepalive"
OLD, NEW = (1, 22, 1), (1, 30, 0)
LOCATION = "http {{ {0} server {{ {1} location / {{ {2} }} }} }}"


def read(name: str, version: Tuple[int, ...]) -> Proxying:
    return Proxying(load((FIXTURES / name).read_text()), version)


def route(
    inner: str, *, server: str = "", http: str = "", version: Tuple[int, ...] = OLD
) -> Route:
    text = LOCATION.format(http, server, inner + " proxy_pass http://127.0.0.1:8000;")
    return Proxying(parse(text), version).routes[0]


def upstream(block: str, version: Tuple[int, ...] = OLD) -> Upstream:
    http = "upstream app {{ server unix:/run/app.sock; {0} }}".format(block)
    tree = parse(LOCATION.format(http, "", "proxy_pass http://app/;"))
    return Proxying(tree, version).upstreams["app"]


def test_a_deployed_service_is_read_from_a_real_dump() -> None:
    found = read("nginx_1_22_deployed.txt", OLD)
    assert found.upstreams == {
        "keepalive_alpha": Upstream(
            name="keepalive_alpha",
            implicit=False,
            servers=("unix:/run/alpha/live.sock",),
            fallible=("unix:/run/alpha/live.sock",),
            pool=128,
            pool_is_default=False,
            keepalive_timeout_s=2,
            keepalive_time_s=3,
            keepalive_requests=3000,
        )
    }
    assert [(each.location, each.connection, each.kept_alive) for each in found.routes]
    for each in found.routes:
        assert (each.http_version, each.connection, each.kept_alive) == (
            "1.1",
            "",
            True,
        )
        assert each.connection_directive == "$keepalive_connection"
        assert each.proxy_read_timeout_s == 45
        assert each.client_keepalive_timeout_s == 75
        assert each.tls
        assert each.ssl_session_cache == "shared:keepalive:10m"


def test_a_handwritten_site_is_read_from_a_real_dump() -> None:
    found = read("nginx_1_26_by_hand.txt", (1, 26, 3))
    assert [each.implicit for each in found.upstreams.values()] == [True]
    (only,) = found.routes
    assert only.server == "server shop.example.com"
    assert only.location == "location /"
    assert only.upstream == "127.0.0.1:8000"
    assert (only.http_version, only.connection) == ("1.0", "close")
    assert only.forwarded_for == "$proxy_add_x_forwarded_for"


def test_the_websocket_map_closes_ordinary_requests_in_a_real_dump() -> None:
    found = read("nginx_1_26_websocket.txt", (1, 26, 3))
    (only,) = found.routes
    assert (only.http_version, only.connection) == ("1.1", "close")
    assert only.connection_mapped
    assert found.upstreams["shop"].pool == 16


@pytest.mark.parametrize(
    ("version", "http_version", "connection", "kept"),
    [((1, 29, 6), "1.0", "close", False), ((1, 29, 7), "1.1", "", True)],
)
def test_defaults_are_those_of_the_version(
    version: Tuple[int, ...], http_version: str, connection: str, kept: bool
) -> None:
    found = route("", version=version)
    assert (found.http_version, found.connection) == (http_version, connection)
    assert found.kept_alive is kept


def test_one_header_in_a_location_discards_all_outside() -> None:
    server = 'proxy_http_version 1.1; proxy_set_header Connection ""; \
        proxy_set_header Host $host;'
    kept = route("", server=server)
    assert (kept.kept_alive, kept.dropped) == (True, ())
    lost = route("proxy_set_header X-Foo bar;", server=server)
    assert (lost.kept_alive, lost.dropped) == (False, ("connection", "host"))
    newer = route("proxy_set_header X-Foo bar;", server=server, version=NEW)
    assert (newer.kept_alive, newer.dropped) == (True, ("connection", "host"))


@pytest.mark.parametrize(
    ("directives", "kept"),
    [
        ('proxy_http_version 1.1; proxy_set_header connection "";', True),
        ("proxy_http_version 1.1; proxy_set_header Connection close;", False),
        ("proxy_http_version 1.1; proxy_set_header Connection 'Close, TE';", False),
        ("proxy_http_version 1.1; proxy_set_header Connection upgrade;", True),
        ("proxy_http_version 1.1; proxy_set_header Connection $http_x;", True),
        ("proxy_http_version 1.1; proxy_set_header Connection $remote_addr;", None),
        ('proxy_set_header Connection "";', False),
        ("proxy_set_header Connection keep-alive;", True),
    ],
)
def test_what_the_app_is_asked_for(directives: str, kept: bool) -> None:
    assert route(directives).kept_alive is kept


@pytest.mark.parametrize(
    ("block", "version", "pool", "is_default"),
    [
        ("", OLD, 0, True),
        ("", (1, 29, 7), 32, True),
        ("keepalive 0;", NEW, 0, False),
        ("keepalive 8;", OLD, 8, False),
        ("keepalive 8 local;", NEW, 8, False),
    ],
)
def test_the_pool(
    block: str, version: Tuple[int, ...], pool: int, is_default: bool
) -> None:
    found = upstream(block, version)
    assert (found.pool, found.pool_is_default) == (pool, is_default)


def test_limits_came_with_versions() -> None:
    old, middle, new = (upstream("keepalive 8;", (1, x, 9)) for x in (14, 18, 22))
    assert (old.keepalive_timeout_s, old.keepalive_requests) == (None, None)
    assert (middle.keepalive_timeout_s, middle.keepalive_requests) == (60, 100)
    assert middle.keepalive_time_s is None
    assert (new.keepalive_time_s, new.keepalive_requests) == (3600, 1000)


def test_a_balancer_after_keepalive_replaces_it_before_1_29_7() -> None:
    assert upstream("keepalive 8; least_conn;").overridden_by == "least_conn"
    assert upstream("least_conn; keepalive 8;").overridden_by == ""
    assert upstream("keepalive 8; least_conn;", NEW).overridden_by == ""


@pytest.mark.parametrize(
    ("target", "servers"),
    [
        ("http://unix:/run/app.sock", ["unix:/run/app.sock"]),
        ("http://unix:/run/app.sock:/api/", ["unix:/run/app.sock"]),
        ("http://127.0.0.1:8000/api?x=1", ["127.0.0.1:8000"]),
        ("http://[::1]:8000", ["[::1]:8000"]),
        ("http://[::1]", ["[::1]:80"]),
        ("https://backend", ["backend:443"]),
        ("http://$target", ["10.0.0.1:9000"]),
    ],
)
def test_targets_without_a_block_are_upstreams_of_their_own(
    target: str, servers: List[str]
) -> None:
    text = LOCATION.format(
        "", "set $target 10.0.0.1:9000;", "proxy_pass " + target + ";"
    )
    found = Proxying(parse(text), NEW)
    assert [list(each.servers) for each in found.upstreams.values()] == [servers]
    assert all(each.implicit and not each.pool for each in found.upstreams.values())


def test_a_target_that_the_request_decides_is_said_to_be_unknown() -> None:
    text = LOCATION.format("", "listen 80;", "proxy_pass http://$host;")
    found = Proxying(parse(text), NEW)
    assert (found.routes, found.unknown_targets) == ([], ["server 80, location /"])


def test_streams_are_no_routes() -> None:
    text = "stream { server { proxy_pass 127.0.0.1:5432; } upstream app { } }"
    assert Proxying(parse(text), NEW).routes == []


def test_a_server_that_is_down_is_no_server() -> None:
    assert upstream("server 127.0.0.1:1 down;").servers == ("unix:/run/app.sock",)
