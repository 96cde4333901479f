# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arms made from what ``nginx -T`` printed on a host with a deployed service."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms import (
    Arm,
    Service,
    render,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms_page import (
    render_page,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    Directive,
    load,
    parse,
    walk,
)

DUMP = Path(__file__).parent.joinpath("fixtures", "nginx_1_26_service_dump.txt")
SITE = "/etc/nginx/conf.d/demo.conf"


def service(version: str = "1.26.3") -> Service:
    tree = load(DUMP.read_text(encoding="utf-8"))
    return Service(tree, SITE, tuple(map(int, version.split("."))))


def rendered(*arms: Arm, version: str = "1.26.3") -> List[Directive]:
    return parse(render(service(version), arms, "/var/cache/b", 9000))


def values(tree: List[Directive], context: str, name: str) -> List[List[str]]:
    return [
        each.args
        for blocks, each in walk(tree)
        if each.name == name and blocks and blocks[-1].name == context
    ]


def test_an_arm_is_the_site_in_force() -> None:
    tree = rendered(Arm("on", 8001))
    assert values(tree, "upstream", "keepalive") == [["128"]]
    assert values(tree, "upstream", "server") == [["unix:/run/demo/live.sock"]]
    assert values(tree, "server", "listen") == [["127.0.0.1:8001"], ["127.0.0.1:9000"]]
    assert ["http://arm_8001"] in values(tree, "location", "proxy_pass")
    assert ["Connection", "$keepalive_connection"] in values(
        tree, "server", "proxy_set_header"
    )


def test_nothing_of_the_live_nginx_is_touched() -> None:
    tree = rendered(Arm("on", 8001))
    (pid,) = [each.args for each in tree if each.name == "pid"]
    assert pid == ["/var/cache/b/nginx.pid"]
    logs = [each.args[0] for _b, each in walk(tree) if each.name == "access_log"]
    assert set(logs) == {"/var/cache/b/access.log", "off"}


@pytest.mark.parametrize(
    ("version", "pool"), [("1.22.1", []), ("1.26.3", []), ("1.30.1", [["0"]])]
)
def test_an_arm_without_keepalive(version: str, pool: List[List[str]]) -> None:
    tree = rendered(Arm("off", 8001, upstream_pool=0), version=version)
    assert values(tree, "upstream", "keepalive") == pool
    assert values(tree, "upstream", "keepalive_time") == []
    assert ["Connection", "$keepalive_connection_off"] in values(
        tree, "server", "proxy_set_header"
    )


def test_arms_differ_in_what_they_say() -> None:
    settings: Dict[str, Any] = {"server": {"gzip": False}, "upstream": {"zone": None}}
    tree = rendered(
        Arm("8", 8001, upstream_pool=8), Arm("plain", 8002, settings=settings)
    )
    assert sorted(values(tree, "upstream", "keepalive")) == [["128"], ["8"]]
    assert values(tree, "server", "gzip") == [["off"]]


def test_a_setting_may_have_several_directives() -> None:
    headers = ["X-A 1", 'X-B "two words"']
    tree = rendered(Arm("on", 8001, settings={"server": {"add_header": headers}}))
    assert values(tree, "server", "add_header") == [["X-A", "1"], ["X-B", "two words"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gzip", "on; location /etc { alias /etc/; }"),
        ("gzip", "on; gzip_vary on"),
        ("gzip on; gzip_vary", "on"),
        ("location", "/x {}"),
        ("gzip", {"on": 1}),
    ],
)
def test_a_setting_is_one_directive(name: str, value: object) -> None:
    settings: Dict[str, Any] = {"server": {name: value}}
    with pytest.raises(KeepaliveError, match="a directive has a name"):
        rendered(Arm("x", 8001, settings=settings))


def test_an_arm_with_tls_and_one_without() -> None:
    tree = rendered(Arm("tls", 8001, tls=True), Arm("plain", 8002))
    assert ["127.0.0.1:8001", "ssl"] in values(tree, "server", "listen")
    assert values(tree, "server", "http2") == [["on"]]


def test_an_arm_with_an_application_of_its_own() -> None:
    tree = rendered(Arm("own", 8001, socket="unix:/run/own.sock"))
    assert values(tree, "upstream", "server") == [["unix:/run/own.sock"]]


def straight_to_the_socket() -> Service:
    text = DUMP.read_text(encoding="utf-8").replace(
        "proxy_pass http://keepalive_demo;",
        "proxy_pass http://unix:/run/demo/live.sock;",
    )
    return Service(load(text), SITE, (1, 26, 3))


def test_a_site_straight_to_the_socket_is_measured_as_it_is() -> None:
    arm = Arm("on", 8001, settings={"server": {"gzip": False}})
    tree = parse(render(straight_to_the_socket(), [arm], "/var/cache/b", 9000))
    assert ["http://unix:/run/demo/live.sock"] in values(tree, "location", "proxy_pass")
    assert values(tree, "server", "gzip") == [["off"]]


@pytest.mark.parametrize(
    "arm",
    [
        Arm("8", 8001, upstream_pool=8),
        Arm("zone", 8001, settings={"upstream": {"zone": "all 64k"}}),
    ],
)
def test_a_pool_has_no_place_there(arm: Arm) -> None:
    with pytest.raises(KeepaliveError, match="an upstream block is needed"):
        render(straight_to_the_socket(), [arm], "/var/cache/b", 9000)


def test_a_pool_keeps_alive_what_the_service_closes() -> None:
    text = DUMP.read_text(encoding="utf-8")
    text = text.replace("Connection $keepalive_connection;", "Connection close;")
    found = Service(load(text), SITE, (1, 26, 3))
    tree = parse(render(found, [Arm("8", 8001, upstream_pool=8)], "/b", 9000))
    assert ["Connection", "$keepalive_connection"] in values(
        tree, "server", "proxy_set_header"
    )


def test_tls_needs_a_certificate() -> None:
    text = DUMP.read_text(encoding="utf-8").replace("ssl_certificate ", "#")
    found = Service(load(text), SITE, (1, 26, 3))
    with pytest.raises(KeepaliveError, match="has no certificate"):
        render(found, [Arm("tls", 8001, tls=True)], "/b", 9000)


def test_what_else_the_live_nginx_serves_is_left_out() -> None:
    text = DUMP.read_text(encoding="utf-8")
    stream = "stream {\n server { listen 5432; }\n}\n"
    header, newline, rest = text.partition("\n")
    found = Service(load(header + newline + stream + rest), SITE, (1, 26, 3))
    assert "5432" not in render(found, [Arm("on", 8001)], "/b", 9000)


def test_a_host_without_the_service() -> None:
    found = Service(load(DUMP.read_text()), "/etc/nginx/conf.d/x.conf", (1, 26))
    with pytest.raises(KeepaliveError, match=r"x\.conf has no server that proxies"):
        render(found, [Arm("on", 8001)], "/var/cache/b", 9000)


def test_the_page() -> None:
    arm = Arm("page", 8001, socket="unix:/run/own.sock")
    tree = parse(render_page(arm, "www-data", "/var/cache/b", 9000))
    assert values(tree, "upstream", "keepalive") == [["8"]]
    assert values(tree, "upstream", "server")[0][0] == "unix:/run/own.sock"
