# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nginx makes of a directive's text: times, versions and variables."""

from __future__ import annotations

import re
from typing import Dict, Iterable, Optional, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    Directive,
    walk,
)

Blocks = Tuple[Directive, ...]

_UNITS_S = {
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
    "M": 2_592_000,
    "y": 31_536_000,
}
_TIME = re.compile(r"(\d+)(ms|[smhdwMy]?)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# A map of a map of a map is rare; one that names itself must end.
_DEPTH = 8
_MAP_OPTIONS = ("hostnames", "volatile")


def parse_seconds(text: str) -> Optional[float]:
    """Return a time as ngx_parse_time reads it (``1h 30m``, ``500ms``, ``60``)."""
    compact = text.replace(" ", "")
    pieces = _TIME.findall(compact)
    if not pieces or "".join(map("".join, pieces)) != compact:
        return None
    return sum(int(number) * _UNITS_S[unit or "s"] for number, unit in pieces)


def parse_version(text: str) -> Tuple[int, ...]:
    """Return ``1.29.7`` as numbers that compare."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def effective(blocks: Blocks, name: str) -> Optional[Directive]:
    """Return the directive in force inside ``blocks``: the innermost one.

    So ngx_conf_merge_value has it for every directive that takes one value.
    """
    for block in reversed(blocks):
        found = block.children(name)
        if found:
            return found[-1]
    return None


class Variables:
    """The values that variables have for an ordinary request.

    That is one that asks for no upgrade and sends no header out of the ordinary.
    """

    def __init__(self, tree: Iterable[Directive]) -> None:
        self._maps: Dict[str, Directive] = {
            each.args[1].lstrip("$"): each
            for _blocks, each in walk(tree)
            if each.name == "map" and len(each.args) > 1
        }

    def resolve(self, text: str, blocks: Blocks, depth: int = _DEPTH) -> Optional[str]:
        """Return the text with its variables' values; None where one is unknown."""
        pieces, end = [], 0
        for match in _VARIABLE.finditer(text):
            value = self._value(match.group(1) or match.group(2), blocks, depth)
            if value is None:
                return None
            pieces += [text[end : match.start()], value]
            end = match.end()
        return "".join(pieces) + text[end:]

    def uses_map(self, text: str) -> bool:
        """Tell whether a variable in the text comes from a ``map``."""
        names = (match.group(1) or match.group(2) for match in _VARIABLE.finditer(text))
        return any(name in self._maps for name in names)

    def _value(self, name: str, blocks: Blocks, depth: int) -> Optional[str]:
        if depth == 0:
            return None
        for block in reversed(blocks):
            # One inside an "if" depends on the request, and is not seen here.
            for each in reversed(block.children("set")):
                if each.args[:1] == ["$" + name]:
                    return self.resolve(each.args[-1], blocks, depth - 1)
        if name in self._maps:
            return self._mapped(self._maps[name], blocks, depth)
        if name.startswith("http_") and name != "http_host":
            return ""
        return None

    def _mapped(self, block: Directive, blocks: Blocks, depth: int) -> Optional[str]:
        source = self.resolve(block.args[0], blocks, depth - 1)
        if source is None:
            return None
        entries = [
            (each.name, each.args[0])
            for each in block.block or ()
            if len(each.args) == 1 and each.name not in _MAP_OPTIONS
        ]
        return self.resolve(_choose(source, entries), blocks, depth - 1)


def _choose(source: str, entries: Sequence[Tuple[str, str]]) -> str:
    """Return a map's value as ngx_http_map_find finds it: exact, regex, default."""
    default = ""
    for key, value in entries:
        if key == "default":
            default = value
        elif not key.startswith("~") and key.lstrip("\\").lower() == source.lower():
            return value
    for key, value in entries:
        if key.startswith("~") and _matches(key[1:], source):
            return value
    return default


def _matches(pattern: str, text: str) -> bool:
    flags = re.IGNORECASE if pattern.startswith("*") else 0
    python = pattern.lstrip("*").replace("(?<", "(?P<").replace("(?P<=", "(?<=")
    try:
        return re.search(python.replace("(?P<!", "(?<!"), text, flags) is not None
    except re.error:
        # PCRE knows more than Python; such a pattern is not for an empty header.
        return False
