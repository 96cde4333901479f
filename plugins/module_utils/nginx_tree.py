# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An nginx configuration as a tree: read from ``nginx -T``, changed, written again.

``nginx -T`` prints every file it has read once, the main file first. ``load``
puts included files where they are included, so the tree is what nginx sees.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Dict, Iterable, Iterator, List, Optional, Tuple

_FILE_HEADER = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
# The rules of ngx_conf_read_token: '#', '}' and quotes are special only where a
# token begins, and '{' after '$' belongs to a variable.
_TOKEN = re.compile(
    r"""\#[^\n]* | "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | [{};]
        | (?:\$\{ | \\. | [^\s{;\\])+""",
    re.VERBOSE | re.DOTALL,
)


@dataclass
class Directive:
    """One directive. ``words`` are as written, quotes included, its name first.

    ``block`` is None for one that ends with a semicolon. ``file`` is where it
    stands.
    """

    words: List[str]
    block: Optional[List["Directive"]] = None
    file: str = ""

    @property
    def name(self) -> str:
        return unquote(self.words[0]) if self.words else ""

    @property
    def args(self) -> List[str]:
        """Return the parameters without their quotes."""
        return [unquote(word) for word in self.words[1:]]

    def children(self, *names: str) -> List["Directive"]:
        """Return the directives directly in its block that have one of the names."""
        return [each for each in self.block or () if each.name in names]


@dataclass
class _Open:
    """A block that is being read."""

    into: List[Directive]
    words: List[str] = field(default_factory=list)


def unquote(word: str) -> str:
    """Return a word as nginx takes it."""
    if len(word) > 1 and word[0] in "\"'" and word[-1] == word[0]:
        return re.sub(r"\\([\"'\\])", r"\1", word[1:-1])
    return word


def parse(text: str, file: str = "") -> List[Directive]:
    """Return the directives of one file. A block that never ends ends with it."""
    stack = [_Open([])]
    for match in _TOKEN.finditer(text):
        piece, top = match.group(), stack[-1]
        if piece.startswith("#"):
            continue
        if piece == ";":
            top.into.append(Directive(top.words, None, file))
            top.words = []
        elif piece == "{":
            block: List[Directive] = []
            top.into.append(Directive(top.words, block, file))
            top.words = []
            stack.append(_Open(block))
        elif piece == "}":
            if len(stack) > 1:
                stack.pop()
        else:
            top.words.append(piece)
    return stack[0].into


def files(dump: str) -> Dict[str, str]:
    """Return the text of each file in the output of ``nginx -T``, main file first."""
    pieces = _FILE_HEADER.split(dump)
    return dict(zip(pieces[1::2], pieces[2::2]))


def load(dump: str) -> List[Directive]:
    """Return the whole configuration in the output of ``nginx -T``."""
    texts = files(dump)
    if not texts:
        return []
    main = next(iter(texts))
    return _included(parse(texts[main], main), texts, posixpath.dirname(main), ())


def _included(
    directives: Iterable[Directive],
    texts: Dict[str, str],
    folder: str,
    within: Tuple[str, ...],
) -> List[Directive]:
    found: List[Directive] = []
    for each in directives:
        if each.block is not None:
            each.block = _included(each.block, texts, folder, within)
            found.append(each)
        elif each.name == "include" and each.args:
            # Relative to the folder of nginx.conf, wherever the include stands.
            pattern = posixpath.join(folder, each.args[0])
            for name in sorted(texts):
                if fnmatchcase(name, pattern) and name not in within:
                    found += _included(
                        parse(texts[name], name), texts, folder, (*within, name)
                    )
        else:
            found.append(each)
    return found


def walk(
    directives: Iterable[Directive], path: Tuple[Directive, ...] = ()
) -> Iterator[Tuple[Tuple[Directive, ...], Directive]]:
    """Yield each directive with the blocks around it, outermost first."""
    for each in directives:
        yield path, each
        if each.block is not None:
            yield from walk(each.block, (*path, each))


def dump(directives: Iterable[Directive], indent: str = "") -> str:
    """Return the configuration as text."""
    lines = []
    for each in directives:
        words = indent + " ".join(each.words)
        if each.block is None:
            lines.append(words + ";\n")
        else:
            inside = dump(each.block, indent + "    ")
            lines.append("{0} {{\n{1}{2}}}\n".format(words, inside, indent))
    return "".join(lines)
