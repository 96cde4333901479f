# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a role's variables, told at once instead of one a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def refusals(groups: Iterable[Iterable[Mapping[str, Any]]]) -> list[str]:
    """Return a message for each rule that is broken, of the first group that has one.

    So a later group may take for granted what an earlier one asks for. A rule has

    - ``holds``, a boolean, and ``msg``, what to say unless it is true; or
    - ``name`` and ``value`` of a variable, and of what it must be one of

      - ``is_list``, true;
      - ``least`` and ``most``, of a number or of each number of a list;
      - ``pattern``, which it or each of a list begins with, and ``what`` that is.

    Raises KeyError for a rule of another kind.
    """
    for rules in groups:
        if found := [said for rule in rules for said in _broken(rule)]:
            return found
    return []


def _broken(rule: Mapping[str, Any]) -> list[str]:
    if "holds" in rule:
        return [] if rule["holds"] else [str(rule["msg"])]
    name, value = rule["name"], rule["value"]
    if rule.get("is_list"):
        said = "{0} is the text {1}; make it a list, [one, two]."
        return [said.format(name, json.dumps(value))] if isinstance(value, str) else []
    if "least" in rule:
        least, most = rule["least"], rule["most"]
        wanted = "{0} to {1}. Correct it in the inventory".format(least, most)
        return _each(name, value, wanted, lambda one: _is_within(one, least, most))
    matches = re.compile(rule["pattern"]).match
    return _each(name, value, rule["what"], lambda one: bool(matches(str(one))))


def _is_within(value: Any, least: int, most: int) -> bool:
    try:
        # `-e name=value` gives text.
        return least <= int(value) <= most
    except ValueError:
        return False


def _each(
    name: str, value: Any, wanted: str, is_good: Callable[[Any], bool]
) -> list[str]:
    """Judge a value, or each of a list of them."""
    if not isinstance(value, list):
        said = "{0} is {1}; it must be {2}."
        return [] if is_good(value) else [said.format(name, _shown(value), wanted)]
    said = "{0} has {1}; each must be {2}."
    return [said.format(name, _shown(e), wanted) for e in value if not is_good(e)]


def _shown(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else str(value)
