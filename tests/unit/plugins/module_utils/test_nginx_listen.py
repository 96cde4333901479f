# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_listen import (
    parse_listens,
)

DUMP = Path(__file__).parent.joinpath("fixtures", "nginx_1_22_dump.txt").read_text()


def listens_of(statement: str) -> List[Tuple[str, int]]:
    dump = "# configuration file /etc/nginx/x.conf:\nserver {{ {0} }}\n"
    return [
        (str(listen.address), listen.port)
        for listen in parse_listens(dump.format(statement))
    ]


def test_a_real_dump_yields_its_tcp_sockets_with_their_files() -> None:
    shop, tls, default = (
        "/etc/nginx/conf.d/shop.conf",
        "/etc/nginx/snippets/listen_tls.conf",
        "/etc/nginx/sites-enabled/default",
    )
    assert [
        (str(each.address), each.port, each.directive, each.file, each.ipv6_only)
        for each in parse_listens(DUMP)
    ] == [
        ("127.0.0.1", 8080, "127.0.0.1:8080", shop, True),
        ("0.0.0.0", 8081, "*:8081", shop, True),
        ("::1", 8082, "[::1]:8082", shop, False),
        ("0.0.0.0", 8443, "8443", tls, True),
        ("::", 8443, "[::]:8443", tls, True),
        ("0.0.0.0", 80, "80", default, True),
        ("::", 80, "[::]:80", default, True),
    ]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("listen 80;", [("0.0.0.0", 80)]),
        ('listen "80" default_server;', [("0.0.0.0", 80)]),
        ("listen 127.0.0.1;", [("127.0.0.1", 80)]),
        ("listen [::1];", [("::1", 80)]),
        ("listen 7000-7002;", [("0.0.0.0", port) for port in (7000, 7001, 7002)]),
        ("listen unix:/run/front.sock;", []),
        ("listen 53 udp;", []),
        ("listen 443 quic reuseport;", []),
        ("listen localhost:80;", []),
        ("map $x $y { listen 80; }", []),
        ("set $x '; listen 80;';", []),
        ("set $x ${host}_a; listen 81;", [("0.0.0.0", 81)]),
        ("# listen 80;\n listen 81;", [("0.0.0.0", 81)]),
        ("return 200 a#b; listen 81;", [("0.0.0.0", 81)]),
        (r"set $x \"; listen 81;", [("0.0.0.0", 81)]),
        ("location ~ '^/(a{2})$' { } listen 81;", [("0.0.0.0", 81)]),
    ],
)
def test_forms_of_listen(statement: str, expected: List[Tuple[str, int]]) -> None:
    assert listens_of(statement) == expected
