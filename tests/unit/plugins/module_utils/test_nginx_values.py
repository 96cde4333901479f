# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Optional, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    Directive,
    parse,
    walk,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_values import (
    Variables,
    parse_seconds,
    parse_version,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("15s", 15),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1d", 86_400),
        ("", None),
        ("soon", None),
        ("5x", None),
    ],
)
def test_times_are_read_as_nginx_does(text: str, seconds: Optional[float]) -> None:
    assert parse_seconds(text) == seconds


def test_versions_compare_by_number() -> None:
    assert parse_version("1.9.1") < parse_version("1.29.7") < parse_version("1.30.0")
    assert parse_version("1.25.3.1") == (1, 25, 3)


def resolved(text: str, config: str) -> Optional[str]:
    tree = parse(config)
    within: Tuple[Directive, ...] = ()
    for blocks, each in walk(tree):
        if each.name == "proxy_pass":
            within = blocks
    return Variables(tree).resolve(text, within)


MAP = "map $http_upgrade $up {{ {0} }} server {{ location / {{ {1} proxy_pass x; }} }}"


@pytest.mark.parametrize(
    ("entries", "value"),
    [
        ("default upgrade; '' close;", "close"),
        ('default ""; "~*^websocket$" upgrade;', ""),
        ("default upgrade;", "upgrade"),
        ("~^$ empty; default other;", "empty"),
        ("default $http_connection;", ""),
        ("websocket upgrade;", ""),
        ("hostnames; default a;", "a"),
        ("default a; ~(?<name>^)$ named;", "named"),
        ("default a; '~\\K(' broken;", "a"),
        ("default $up;", None),
        ("default $remote_addr;", None),
    ],
)
def test_a_map_has_the_value_of_a_request_without_the_header(
    entries: str, value: Optional[str]
) -> None:
    assert resolved("$up", MAP.format(entries, "")) == value


def test_the_innermost_set_counts_and_one_in_an_if_does_not() -> None:
    config = (
        "server { set $a outer; set $b far; location / { set $a inner; "
        "if ($b) { set $b never; } proxy_pass x; } }"
    )
    assert resolved("${a}-$b", config) == "inner-far"


def test_what_the_request_decides_is_unknown() -> None:
    assert resolved("x$remote_addr", "") is None
    assert resolved("$http_host", "") is None
    assert resolved("plain", "") == "plain"
