# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.refusals import refusals

PORT = {"name": "port", "least": 1, "most": 65535}
PATH = {"name": "path", "pattern": r"^/[!-~]*\Z", "what": "a path"}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({**PORT, "value": 1}, []),
        ({**PORT, "value": "65535"}, []),
        (
            {**PORT, "value": 0},
            ["port is 0; it must be 1 to 65535. Correct it in the inventory."],
        ),
        (
            {**PORT, "value": "many"},
            ['port is "many"; it must be 1 to 65535. Correct it in the inventory.'],
        ),
        (
            {**PORT, "value": [80, 70000, "x"]},
            [
                "port has 70000; each must be 1 to 65535. Correct it in the inventory.",
                'port has "x"; each must be 1 to 65535. Correct it in the inventory.',
            ],
        ),
        ({**PORT, "value": []}, []),
        ({**PATH, "value": "/health"}, []),
        ({**PATH, "value": "/a\nb"}, ['path is "/a\\nb"; it must be a path.']),
        ({**PATH, "value": ["/", "x"]}, ['path has "x"; each must be a path.']),
        ({"name": "names", "value": [], "is_list": True}, []),
        (
            {"name": "names", "value": "a", "is_list": True},
            ['names is the text "a"; make it a list, [one, two].'],
        ),
        ({"holds": True, "msg": "no"}, []),
        ({"holds": False, "msg": "Set both."}, ["Set both."]),
    ],
)
def test_a_rule(rule: dict[str, Any], said: list[str]) -> None:
    assert refusals([[rule]]) == said


def test_all_of_a_group_are_told_and_later_ones_take_it_for_granted() -> None:
    first = [{"holds": False, "msg": "one"}, {"holds": False, "msg": "two"}]
    assert refusals([[], first, [{"holds": False, "msg": "three"}]]) == ["one", "two"]


def test_an_unknown_rule_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        refusals([[{"name": "a", "value": 1}]])
