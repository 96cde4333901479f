# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's argument_specs.yml is its reference, so it says what the role does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest
import yaml
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_links import (
    BUDGETS,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import SITE_MARK

ROLES = sorted((Path(__file__).parents[3] / "roles").iterdir())
# The Python types that a default of a documented type may have.
TYPES: Dict[str, Tuple[type, ...]] = {
    "bool": (bool,),
    "dict": (dict,),
    "float": (float,),
    "int": (int,),
    "list": (list,),
    "path": (str,),
    "str": (str,),
}

Option = Dict[str, Any]

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def read(role: Path, name: str) -> Any:
    path = role / name
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


def options_of(role: Path) -> Dict[str, Option]:
    specs = read(role, "meta/argument_specs.yml")["argument_specs"]
    assert list(specs) == ["main"]
    options: Dict[str, Option] = specs["main"]["options"]
    return options


def all_options(
    options: Dict[str, Option], path: str = ""
) -> Iterator[Tuple[str, Option]]:
    """Yield every option and suboption with its dotted name."""
    for name, option in options.items():
        yield path + name, option
        yield from all_options(option.get("options", {}), path + name + ".")


def description_of(option: Option) -> str:
    text = option["description"]
    return " ".join(text) if isinstance(text, list) else text


def is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def texts_of(role: Path) -> Iterator[Tuple[Path, str]]:
    for folder in ("tasks", "templates", "handlers", "vars", "defaults"):
        for path in sorted((role / folder).rglob("*")):
            if path.is_file():
                yield path, path.read_text(encoding="utf-8")


def used_in(text: str) -> Set[str]:
    """Return the public variables of any of our roles that a text names."""
    prefixes = "|".join(role.name for role in ROLES)
    # Not a __private name, a service's file name or a tag.
    return set(re.findall(r"(?<![\w.-])(?:{0})_[a-z0-9_]+\b".format(prefixes), text))


def tags_of(role: Path) -> Set[str]:
    tasks = read(role, "tasks/main.yml")
    return {tag for task in tasks for tag in task.get("tags", [])}


def rules_of(role: Path) -> List[Dict[str, Any]]:
    """Return what preflight asks of single variables."""
    groups = [
        group
        for name, value in read(role, "vars/main.yml").items()
        if name.startswith("__{0}_rules".format(role.name)) and isinstance(value, list)
        for group in value
    ]
    return [rule for group in groups for rule in group if "holds" not in rule]


@each_role
def test_defaults_are_the_documented_ones(role: Path) -> None:
    options = options_of(role)
    defaults: Dict[str, Any] = read(role, "defaults/main.yml")
    documented = {name: o["default"] for name, o in options.items() if "default" in o}
    assert defaults == documented
    assert {n: type(v) for n, v in defaults.items()} == {
        n: type(v) for n, v in documented.items()
    }
    without = {name for name in options if name not in documented}
    assert without == {name for name, o in options.items() if o.get("required")}


@each_role
def test_every_default_has_its_documented_type(role: Path) -> None:
    for name, option in all_options(options_of(role)):
        value = option.get("default")
        if value is None or is_template(value):
            continue  # a template has its type when it is evaluated
        assert type(value) in TYPES[option["type"]], name
        if option["type"] == "list":
            assert all(type(v) in TYPES[option["elements"]] for v in value), name
        if "choices" in option:
            chosen = value if isinstance(value, list) else [value]
            assert set(chosen) <= set(option["choices"]), name


@each_role
def test_every_option_is_described_and_typed(role: Path) -> None:
    for name, option in all_options(options_of(role)):
        text = description_of(option)
        assert text.endswith((".", ")")), name
        assert text[0].isupper() or text.startswith(("V(", "max-age")), name
        assert option["type"] in TYPES, name
        assert ("elements" in option) == (option["type"] == "list"), name


@each_role
def test_times_and_sizes_name_their_unit_twice(role: Path) -> None:
    units = {
        "_per_s": "(in requests per second)",
        "_bytes": "(in bytes)",
        "_ms": "(in milliseconds)",
        "_s": "(in seconds)",
        "_mb": "(in MB, of 1,000,000 bytes)",
    }
    for name, option in all_options(options_of(role)):
        text = description_of(option)
        suffix = next((s for s in units if name.endswith(s)), None)
        said = next((s for s, phrase in units.items() if phrase in text), None)
        assert suffix == said, name


@each_role
def test_every_rule_is_of_an_option_and_its_value(role: Path) -> None:
    options, rules = options_of(role), rules_of(role)
    for rule in rules:
        assert rule["value"] == "{{{{ {0} }}}}".format(rule["name"])
        assert rule["name"] in options
    of_lists = {rule["name"] for rule in rules if rule.get("is_list")}
    lists = {name for name in options if options[name]["type"] == "list"}
    of_dicts = {name for name in lists if options[name]["elements"] == "dict"}
    assert of_lists - of_dicts == (lists - of_dicts if of_lists else set())


@each_role
def test_every_number_has_its_documented_bounds(role: Path) -> None:
    options = options_of(role)
    bounds = {rule["name"]: rule for rule in rules_of(role) if "least" in rule}
    budgets = {"fastapi_service_{0}".format(name) for name in BUDGETS}
    numbers = {name for name in options if options[name]["type"] == "int"}
    unbounded = {name for name in numbers if "choices" not in options[name]} - budgets
    assert unbounded <= set(bounds)
    for name in numbers & set(bounds):
        least, most = bounds[name]["least"], bounds[name]["most"]
        assert least <= options[name]["default"] <= most, name
        assert f"{least} to {most}" in description_of(options[name]), name


def test_the_site_has_the_mark_by_which_it_is_known() -> None:
    role = next(role for role in ROLES if role.name == "fastapi_service")
    template = role / "templates/site.conf.j2"
    assert SITE_MARK in template.read_text(encoding="utf-8")


def test_every_budget_is_documented_with_its_bounds() -> None:
    role = next(role for role in ROLES if role.name == "fastapi_service")
    options = options_of(role)
    budgets = {"fastapi_service_" + name: BUDGETS[name] for name in BUDGETS}
    documented = budgets.keys() & options.keys()
    assert len(documented) > 5
    for name in documented - {"fastapi_service_workers"}:  # 0 stands for a default
        least, greatest = budgets[name]
        assert f"{least} to {greatest}" in description_of(options[name]), name


@each_role
def test_every_public_variable_in_the_role_is_an_option(role: Path) -> None:
    known: Set[str] = set().union(*(options_of(each) for each in ROLES))
    known |= tags_of(role)
    for path, text in texts_of(role):
        assert used_in(text) <= known, path


@each_role
def test_every_option_is_used(role: Path) -> None:
    used = Path(role / "defaults/main.yml")
    texts = "\n".join(text for path, text in texts_of(role) if path != used)
    assert set(options_of(role)) <= used_in(texts)


def test_the_sandbox_is_documented_directive_by_directive() -> None:
    role = next(role for role in ROLES if role.name == "fastapi_service")
    options = options_of(role)["fastapi_service_sandbox"]["options"]
    sandbox = read(role, "vars/main.yml")["__fastapi_service_sandbox"]
    assert {name: option["default"] for name, option in options.items()} == sandbox
    assert {option["type"] for option in options.values()} == {"str"}
