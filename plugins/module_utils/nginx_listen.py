# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which TCP addresses and ports an nginx configuration listens on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import List, Tuple, Union

from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    load,
    walk,
)

Address = Union[IPv4Address, IPv6Address]

_ANY = IPv4Address(0)
_DEFAULT_PORT = 80


@dataclass(frozen=True)
class Listen:
    """One TCP address and port of a ``listen`` directive."""

    address: Address
    port: int
    directive: str
    file: str
    ipv6_only: bool = True


def _split_port(text: str) -> Tuple[str, str]:
    """Split the first parameter of ``listen`` as ngx_parse_url does."""
    if text.startswith("["):
        host, _separator, port = text[1:].partition("]")
        return host, port.lstrip(":")
    if re.fullmatch(r"[0-9]+(-[0-9]+)?", text):
        return "*", text
    host, _separator, port = text.partition(":")
    return host, port


def _parse_listen(words: List[str], file: str) -> List[Listen]:
    target, options = words[0], words[1:]
    if target.startswith("unix:") or {"udp", "quic"} & set(options):
        return []
    host, port = _split_port(target)
    first, _dash, last = port.partition("-")
    try:
        address = _ANY if host == "*" else ip_address(host)
        lowest = int(first or _DEFAULT_PORT)
        ports = range(lowest, int(last or lowest) + 1)
    except ValueError:
        # A host name; nginx resolves it, and the reload tells if it was taken.
        return []
    return [
        Listen(address, number, target, file, "ipv6only=off" not in options)
        for number in ports
    ]


def parse_listens(dump: str) -> List[Listen]:
    """Return the TCP sockets that the output of ``nginx -T`` asks for."""
    return [
        listen
        for blocks, each in walk(load(dump))
        if each.name == "listen" and each.args
        if blocks and blocks[-1].name == "server"
        for listen in _parse_listen(each.args, each.file)
    ]
