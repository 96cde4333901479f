# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Set, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.app_command import (
    Settings,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.findings_app import (
    check_hop,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.findings_nginx import (
    is_listed_again,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.hop import (
    App,
    Finding,
    Hop,
    ordered,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.listeners import (
    Listener,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_routes import (
    Proxying,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import parse
from ansible_collections.keepalive.fastapi.plugins.module_utils.process import Process
from ansible_collections.keepalive.fastapi.plugins.module_utils.survey import examine

OLD, NEW = (1, 28, 3), (1, 30, 0)
SOCKET = "unix:/run/shop.sock"
BLOCK = "server unix:/run/shop.sock; keepalive 16; keepalive_timeout 15s;"
REUSE = 'proxy_http_version 1.1; proxy_set_header Connection "";'
CONFIG = (
    "http {{ upstream shop {{ {block} }} {http} server {{ listen 80; {server} "
    "location / {{ {location} proxy_pass {target}; }} }} }}"
)
GOOD = Settings(
    source="gunicorn",
    version="27.0.1",
    keepalive_s=30,
    timeout_s=70,
    graceful_timeout_s=35,
    workers=2,
    worker_class="uvicorn_worker.UvicornWorker",
    max_requests=0,
    backlog=2048,
    forwarded_allow_ips="127.0.0.1",
)
PROCESS = Process(
    pid=444,
    argv=("gunicorn",),
    exe="/usr/bin/python3.13",
    cwd="/",
    environ={},
    uid=995,
    gid=995,
    groups=(),
    unit="shop.service",
    nofile=9216,
    started_at_s=0,
)
APP = App(
    Listener(SOCKET, 4, False, 444, (447, 448)),
    is_local=True,
    server="gunicorn",
    process=PROCESS,
    settings=GOOD,
    unit={"KillMode": "mixed", "NeedDaemonReload": "no"},
    stop_s=80,
    start_s=90,
)


def hop(app: App = APP, version: Tuple[int, ...] = OLD, **given: str) -> Hop:
    parts = {
        "block": BLOCK,
        "http": "",
        "server": REUSE,
        "location": "",
        "target": "http://shop",
    }
    found = Proxying(parse(CONFIG.format(**{**parts, **given})), version)
    upstream = next(iter(found.upstreams.values()))
    return Hop(upstream, found.routes, [app], version, 2, 4096, {})


def found(*args: Any, **given: Any) -> Dict[str, str]:
    return {each.id: each.severity for each in examine(hop(*args, **given))}


def with_settings(**changes: Any) -> App:
    return replace(APP, settings=replace(GOOD, **changes))


@pytest.mark.parametrize("version", [(1, 22, 1), OLD, (1, 29, 7), NEW])
def test_a_sound_host_gives_nothing(version: Tuple[int, ...]) -> None:
    assert found(version=version) == {}
    assert all(each.holds for each in check_hop(hop(version=version), APP))


def test_a_header_in_the_location_drops_connection_before_1_29_7() -> None:
    sabotage = {"location": "proxy_set_header X-Foo bar;"}
    assert found(**sabotage) == {
        "connection_header_dropped": "error",
        "headers_dropped": "info",
    }
    assert found(version=NEW, **sabotage) == {"headers_dropped": "info"}


def test_a_pool_of_none() -> None:
    none = "server unix:/run/shop.sock;"
    assert found(block=none)["upstream_pool_zero"] == "error"
    # nginx's 60 s are longer than the app's 30.
    by_default = {"keepalive_by_default": "info", "upstream_idle": "error"}
    assert found(block=none, version=NEW) == by_default
    zero = none + "keepalive 0;"
    assert found(block=zero, version=NEW)["upstream_pool_zero"] == "error"


@pytest.mark.parametrize("version", [OLD, NEW])
def test_straight_to_the_socket(version: Tuple[int, ...]) -> None:
    given = found(version=version, target="http://unix:/run/shop.sock:/")
    assert given["upstream_implicit"] == "error"
    # The race is there as soon as connections are kept, by nginx's 60 s.
    assert given["upstream_idle"] == "warning"


BARE = {"server": ""}


def test_the_defaults_before_1_29_7() -> None:
    assert found(**BARE) == {"http_1_0": "error", "connection_close_default": "error"}
    assert found(version=NEW, **BARE) == {}


@pytest.mark.parametrize(
    ("value", "identity", "severity"),
    [
        ("close", "connection_close", "error"),
        ("$up", "connection_map_close", "error"),
        ("$http_connection", "connection_from_client", "warning"),
        ("$remote_addr", "connection_unknown", "info"),
    ],
)
def test_connection_headers(value: str, identity: str, severity: str) -> None:
    given = found(
        http="map $http_upgrade $up { default upgrade; '' close; }",
        server="proxy_http_version 1.1; proxy_set_header Connection " + value + ";",
    )
    assert given == {identity: severity}


@pytest.mark.parametrize(
    ("part", "text", "expected"),
    [
        ("block", BLOCK + "server unix:/run/shop.sock;", {"socket_twice": "error"}),
        ("block", BLOCK + "ip_hash;", {"balancer_after_keepalive": "error"}),
        ("server", REUSE + "keepalive_timeout 0;", {"client_keepalive_off": "warning"}),
        ("server", REUSE + "listen 443 ssl;", {"tls_sessions_not_cached": "info"}),
        (
            "server",
            REUSE + "listen 443 ssl; ssl_session_tickets off;",
            {"tls_sessions_not_cached": "warning"},
        ),
        (
            "server",
            REUSE + "proxy_next_upstream error non_idempotent;",
            {"retries_repeat_posts": "warning"},
        ),
        ("server", REUSE + "proxy_next_upstream off;", {"retries_off": "info"}),
    ],
)
def test_nginx_rules(part: str, text: str, expected: Dict[str, str]) -> None:
    assert found(**{part: text}) == expected


def test_localhost_is_two_peers() -> None:
    two = replace(hop(), peers={"localhost:8000": ["127.0.0.1", "::1"]})
    upstream = replace(two.upstream, fallible=("localhost:8000",))
    given = examine(replace(two, upstream=upstream))
    assert [(each.id, each.severity) for each in given] == [
        ("localhost_two_peers", "warning")
    ]
    # With max_fails=0.
    assert list(examine(replace(two, upstream=replace(upstream, fallible=())))) == []


def test_a_socket_by_two_paths_is_listed_twice(tmp_path: Path) -> None:
    socket, other = tmp_path / "a.sock", tmp_path / "b.sock"
    socket.touch()
    other.symlink_to(socket)
    servers = ["unix:{0}".format(each) for each in (socket, other)]
    assert all(is_listed_again(each, servers) for each in servers)
    assert not is_listed_again(servers[0], [servers[0], "127.0.0.1:8000"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"keepalive_s": 2}, {"upstream_idle": "error"}),
        ({"keepalive_s": 15}, {"upstream_idle": "error"}),
        ({"keepalive_s": 20}, {}),
        ({"worker_class": "sync"}, {"worker_sync": "error"}),
        (
            {"worker_class": "uvicorn.workers.UvicornWorker"},
            {"worker_deprecated": "warning"},
        ),
        ({"worker_class": "asgi"}, {"asgi_backlog": "info"}),
        ({"worker_class": "gthread", "keepalive_s": 20}, {}),
        ({"max_requests": 1000}, {"recycle_drops_connections": "warning"}),
        (
            {"max_requests": 1000, "workers": 1},
            {"recycle_drops_connections": "warning", "recycle_workers": "warning"},
        ),
        ({"backlog": 8192}, {"backlog": "warning"}),
        ({"graceful_timeout_s": 60}, {"stop": "warning"}),
    ],
)
def test_app_rules(changes: Dict[str, Any], expected: Dict[str, str]) -> None:
    assert found(with_settings(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config_is_newer": True}, {"app_config_newer": "warning"}),
        ({"settings_unread": "KeyError"}, {"app_settings_unread": "info"}),
        ({"unit": {"NeedDaemonReload": "yes"}}, {"unit_changed": "warning"}),
        ({"unit": {"KillMode": "control-group"}}, {"kill_mode": "info"}),
        ({"unit": {"KillMode": "process"}}, {"kill_mode": "warning"}),
        ({"settings": None, "server": "hypercorn"}, {"app_unknown": "info"}),
        (
            {"process": None, "settings": None, "server": ""},
            {"nobody_listens": "error"},
        ),
        (
            {
                "process": None,
                "settings": None,
                "listener": Listener(SOCKET, 0, by_systemd=True),
            },
            {"app_not_running": "warning"},
        ),
        ({"process": None, "settings": None, "is_local": False}, {}),
        ({"process": replace(PROCESS, nofile=20)}, {"open_files": "warning"}),
    ],
)
def test_what_is_in_force(changes: Dict[str, Any], expected: Dict[str, str]) -> None:
    assert found(replace(APP, **changes)) == expected


def test_a_forged_address_takes_both_sides() -> None:
    appending = REUSE + "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
    trusting = with_settings(forwarded_allow_ips="*")
    assert found(trusting, server=appending) == {"forwarded_for_forged": "warning"}
    assert found(trusting) == {}
    assert found(server=appending) == {}


def test_a_restart_queues_only_in_a_socket_of_systemd() -> None:
    activated = replace(APP, listener=replace(APP.listener, by_systemd=True))
    assert set(found(activated)) == {"restart_read", "restart_send"}
    patient = REUSE + "proxy_read_timeout 126s; proxy_send_timeout 3m;"
    assert found(activated, server=patient) == {}


def test_another_program_is_no_error() -> None:
    go = replace(PROCESS, exe="/usr/bin/grafana")
    app = replace(APP, process=go, server="", settings=None)
    assert found(app, server="")["http_1_0"] == "warning"


def test_standalone_uvicorn_names_its_own_option() -> None:
    app = replace(APP, server="uvicorn", settings=Settings("x", keepalive_s=5))
    (only,) = examine(hop(app))
    assert only.id == "upstream_idle"
    assert "Uvicorn's --timeout-keep-alive" in only.fix
    assert "keepalive_timeout of shop" in only.fix


def test_places_are_named_and_not_all_of_them() -> None:
    locations = "".join(
        "location /{0} {{ proxy_pass http://shop; }}".format(n) for n in range(9)
    )
    (only,) = examine(hop(server=REUSE + "keepalive_timeout 0;" + locations))
    assert only.where.startswith("server 80, location /")
    assert only.where.endswith("; and 7 more")


def test_the_worst_come_first_and_once() -> None:
    given = [Finding(x, x, "", "") for x in ("info", "error", "warning", "error")]
    assert [each.id for each in ordered(given)] == ["error", "warning", "info"]


def every_finding() -> List[Finding]:
    bad = with_settings(worker_class="sync", backlog=8192, graceful_timeout_s=60)
    return examine(hop(bad, server="keepalive_timeout 0;", block=BLOCK + "ip_hash;"))


def test_each_says_what_is_so_and_what_to_do() -> None:
    identities: Set[str] = set()
    for each in every_finding():
        identities.add(each.id)
        assert each.reason
        assert each.fix
        assert each.upstream == "shop"
        assert "{" not in each.reason + each.fix
    assert len(identities) >= 6
