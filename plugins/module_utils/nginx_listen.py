# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which TCP addresses and ports an nginx configuration listens on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Iterator, List, Optional, Tuple, Union

Address = Union[IPv4Address, IPv6Address]

_ANY = IPv4Address(0)
_DEFAULT_PORT = 80
_FILE_HEADER = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
# The rules of ngx_conf_read_token: '#', '}' and quotes are special only where a
# token begins, and '{' after '$' belongs to a variable.
_TOKEN = re.compile(
    r"""\#[^\n]* | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [{};]
        | (?:\$\{ | \\. | [^\s{;\\])+""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Listen:
    """One TCP address and port of a ``listen`` directive."""

    address: Address
    port: int
    directive: str
    file: str
    ipv6_only: bool = True


def _statements(text: str) -> Iterator[Tuple[Optional[str], List[str]]]:
    """Yield each simple directive with the name of the block around it."""
    blocks: List[str] = []
    words: List[str] = []
    for match in _TOKEN.finditer(text):
        piece = match.group()
        if piece.startswith("#"):
            continue
        if piece == ";":
            yield (blocks[-1] if blocks else None), words
            words = []
        elif piece == "{":
            blocks.append(words[0] if words else "")
            words = []
        elif piece == "}":
            del blocks[-1:]
            words = []
        else:
            words.append(piece.strip("\"'"))


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
    target, options = words[1], words[2:]
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
    """Return the TCP sockets that the output of ``nginx -T`` asks for.

    The dump prints included files one after the other, so a ``listen`` at the
    top of a file stands in a file included by a server block.
    """
    pieces = _FILE_HEADER.split(dump)
    listens: List[Listen] = []
    for file, text in zip(pieces[1::2], pieces[2::2]):
        for block, words in _statements(text):
            if words[:1] == ["listen"] and len(words) > 1 and block in (None, "server"):
                listens.extend(_parse_listen(words, file))
    return listens
