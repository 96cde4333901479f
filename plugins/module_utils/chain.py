# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The chain of timeouts from the client to systemd, derived and checked.

A few budgets that a person understands go in; every timeout of nginx,
Gunicorn and systemd comes out, or a sentence for each contradiction.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_links import (
    BUDGETS,
    CHAIN,
    VARIABLE_PREFIX,
    Bounds,
    ChainError,
    Numbers,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_rules import (
    Inequality,
    check_chain,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.worker_class import (
    WORKER_CLASS,
    check_worker_class,
)

OVERRIDES_VARIABLE = "fastapi_service_chain_overrides"


def derive_chain(
    budgets: Mapping[str, object], overrides: Mapping[str, object]
) -> Dict[str, int]:
    """Derive every timeout and limit of the chain from the budgets.

    An override replaces one value of the chain, and what follows from that
    value follows the override. Raises ChainError, naming every unusable
    variable, or else every inequality that does not hold.
    """
    values, fixed = _read_input(budgets, overrides)
    for key, link in CHAIN.items():
        values[key] = fixed[key] if key in fixed else link.formula(values)
    names = {key: _user_name(key, fixed) for key in values}
    checked = check_chain({**values, WORKER_CLASS: budgets[WORKER_CLASS]}, names)
    broken = [inequality for inequality in checked if not inequality.holds]
    if broken:
        raise ChainError(_explain(broken, values, fixed))
    return {key: values[key] for key in CHAIN}


def _read_input(
    budgets: Mapping[str, object], overrides: Mapping[str, object]
) -> Tuple[Dict[str, int], Dict[str, int]]:
    """Return the numbers in both; ChainError names all that is unusable."""
    problems = [
        f"{VARIABLE_PREFIX}{key} is missing; give it a value."
        for key in (*BUDGETS, WORKER_CLASS)
        if key not in budgets
    ]
    if WORKER_CLASS in budgets:
        try:
            check_worker_class(budgets[WORKER_CLASS])
        except ChainError as error:
            problems.append(str(error))
    numeric = {key: value for key, value in budgets.items() if key != WORKER_CLASS}
    values, unusable = _read(numeric, BUDGETS, VARIABLE_PREFIX)
    problems += unusable
    allowed = {key: link.bounds for key, link in CHAIN.items()}
    fixed, unusable = _read(overrides, allowed, OVERRIDES_VARIABLE + ".")
    problems += unusable
    if problems:
        raise ChainError("\n".join(problems))
    return values, fixed


def _read(
    given: Mapping[str, object], allowed: Mapping[str, Bounds], prefix: str
) -> Tuple[Dict[str, int], List[str]]:
    """Return the usable numbers, and a sentence for each entry that is not."""
    numbers: Dict[str, int] = {}
    problems: List[str] = []
    for key, value in given.items():
        if key not in allowed:
            problems.append(_unknown(key, allowed, prefix))
            continue
        number = _whole_number(value)
        least, greatest = allowed[key]
        if number is None or not least <= number <= greatest:
            timed = key.endswith("_s") and not key.endswith("_per_s")
            problems.append(
                f"{prefix}{key} is {value!r}; it must be a whole number"
                f"{' of seconds' if timed else ''} from {least} to {greatest}."
            )
        else:
            numbers[key] = number
    return numbers, problems


def _whole_number(value: object) -> Optional[int]:
    # Extra variables of the command line (-e name=30) arrive as text.
    if isinstance(value, str) and re.fullmatch("[0-9]{1,12}", value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return None


def _unknown(key: object, allowed: Iterable[str], prefix: str) -> str:
    close = get_close_matches(str(key), list(allowed), n=1)
    if close:
        return f"{prefix}{key} is unknown; did you mean {prefix}{close[0]}?"
    return f"{prefix}{key} is unknown; known are {', '.join(sorted(allowed))}."


def _user_name(key: str, overrides: Numbers) -> str:
    """Return what the user calls a value; a derived one has its chain's name."""
    if key in overrides:
        return f"{OVERRIDES_VARIABLE}.{key}"
    return VARIABLE_PREFIX + key if key in BUDGETS else key


def _origins(key: str, overrides: Numbers) -> List[str]:
    """Return the budgets and overrides that a value follows from."""
    if key in overrides or key in BUDGETS:
        return [key]
    origins: List[str] = []
    for source in CHAIN[key].sources:
        origins += [o for o in _origins(source, overrides) if o not in origins]
    return origins


def _explain(broken: List[Inequality], values: Numbers, overrides: Numbers) -> str:
    def assigned(key: str) -> str:
        return f"{_user_name(key, overrides)} = {values[key]}"

    def traced(key: str) -> str:
        origins = _origins(key, overrides)
        if origins == [key]:
            return assigned(key)
        return f"{assigned(key)} (from {', '.join(map(assigned, origins))})"

    return "\n".join(
        f"The timeouts contradict each other ({inequality.rule}):"
        f" {inequality.relation} does not hold ({inequality.left} against"
        f" {inequality.right}), where"
        f" {', '.join(map(traced, inequality.variables))};"
        f" {inequality.why}. To fix it, {inequality.fix}."
        for inequality in broken
    )
