# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections import Counter
from typing import Any, Dict

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.benchmark_plan import (
    collect,
    plan,
)

STUDY: Dict[str, Any] = {
    "question": "What does it give?",
    "arms": [
        {"name": "off", "upstream_pool": 0, "expect_upstream": "new"},
        {"name": "on", "expect_upstream": "kept"},
    ],
}
REQUESTS = [
    {"name": "sync", "path": "/sync/", "method": "POST", "body": "{}"},
    {"name": "async", "path": "/async/"},
]


def planned(**changes: Any) -> Dict[str, Any]:
    asked: Dict[str, Any] = {
        "study": STUDY,
        "requests": REQUESTS,
        "connections": [100],
        "pairs": 8,
        "duration_s": 5,
        **changes,
    }
    return plan(asked.pop("study"), asked.pop("requests"), **asked)


def test_runs_are_interleaved_and_numbered() -> None:
    runs = planned()["runs"]
    assert [run["arm"] for run in runs[:4]] == ["off", "on", "on", "off"]
    assert [run["position"] for run in runs] == list(range(1, 33))
    assert [run["round"] for run in runs[:4]] == [0, 0, 1, 1]
    assert set(Counter(run["case"] for run in runs).values()) == {16}


def test_an_arm_is_split_between_the_host_and_the_generator() -> None:
    got = planned()
    assert got["arms"][0] == {"name": "off", "upstream_pool": 0}
    assert got["runs"][0]["expect_upstream"] == "new"
    assert got["runs"][0]["method"] == "POST"
    assert got["runs"][16]["method"] == "GET"


def test_each_number_of_connections_and_each_comparison_is_a_case() -> None:
    study = {
        **STUDY,
        "arms": [{"name": name} for name in "abc"],
        "comparisons": [["a", "b"], ["c", "b"]],
    }
    cases = planned(study=study, requests=REQUESTS[1:], connections=[1, 9])["cases"]
    assert [(case["name"], case["base"]) for case in cases] == [
        ("async, 1 connections, b against a", "a"),
        ("async, 1 connections, b against c", "c"),
        ("async, 9 connections, b against a", "a"),
        ("async, 9 connections, b against c", "c"),
    ]


def test_every_arm_is_warmed_up_in_every_case() -> None:
    got = planned()
    assert len(got["warm_ups"]) == 4
    assert got["seconds"] > 32 * 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pairs": 7}, "keepalive_benchmark_pairs is 7"),
        ({"study": {**STUDY, "arms": STUDY["arms"][:1]}}, "at least two arms"),
        ({"study": {**STUDY, "arms": STUDY["arms"][:1] * 2}}, "name of its own"),
        ({"requests": []}, "must each have an entry"),
        ({"connections": [0]}, "at least 1"),
        ({"requests": [{"name": "x"}]}, "each needs a name and a path"),
    ],
)
def test_what_cannot_be_compared(changes: Dict[str, Any], said: str) -> None:
    with pytest.raises(KeepaliveError, match=said):
        planned(**changes)


def test_results_become_runs() -> None:
    run = planned()["runs"][0]
    result = {"valid": True, "invalid_reasons": [], "invocation": {}, "__run": run}
    (got,) = collect([result], [])
    assert (got["case"], got["arm"], got["position"]) == (run["case"], "off", 1)
    assert "invocation" not in got


def test_a_witness_on_the_host_speaks_for_a_generator_elsewhere() -> None:
    run = planned()["runs"][0]
    result = {"valid": True, "invalid_reasons": [], "reuse": None, "__run": run}
    proof = {
        "valid": False,
        "invalid_reasons": ["connections are not kept alive", "not steady"],
        "warmup_steady": False,
        "reuse": {"upstream": {"nginx": 1.0}},
        "__run": run,
    }
    (got,) = collect([result], [proof])
    assert got["invalid_reasons"] == ["connections are not kept alive"]
    assert got["valid"] is False
    assert got["reuse"] == {"upstream": {"nginx": 1.0}}
