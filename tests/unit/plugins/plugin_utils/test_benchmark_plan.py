# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any, Dict

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.benchmark_plan import (
    BLOCK_ROUNDS,
    collect,
    options,
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
    return plan(
        changes.get("study", STUDY),
        changes.get("requests", REQUESTS),
        connections=changes.get("connections", [100]),
        pairs=changes.get("pairs", 8),
        duration_s=5,
    )


def test_rounds_are_made_in_blocks() -> None:
    got = planned(pairs=12)
    blocks = [block for block in got["blocks"] if block["case"].startswith("sync")]
    assert [(each["first_round"], each["rounds"]) for each in blocks] == [
        (0, BLOCK_ROUNDS),
        (5, BLOCK_ROUNDS),
        (10, 2),
    ]
    assert [load["name"] for load in blocks[0]["loads"]] == ["off", "on"]
    assert got["runs"] == 2 * 2 * 12


def test_an_arm_is_split_between_the_host_and_the_generator() -> None:
    got = planned()
    assert got["arms"][0] == {"name": "off", "upstream_pool": 0}
    first, last = got["blocks"][0]["loads"][0], got["blocks"][-1]["loads"][0]
    assert (first["expect_upstream"], first["method"]) == ("new", "POST")
    assert last["method"] == "GET"


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


def test_every_arm_is_warmed_up_for_every_request() -> None:
    got = planned()
    assert len(got["warm_ups"]) == 4
    assert got["seconds"] > 32 * 5


def test_cases_that_differ_in_name_only_are_warmed_up_once() -> None:
    again = [{**REQUESTS[1], "name": f"comparison {number}"} for number in range(40)]
    got = planned(requests=again)
    assert len(got["cases"]) == 40
    assert len(got["warm_ups"]) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pairs": 7}, "keepalive_benchmark_pairs is 7"),
        ({"study": {**STUDY, "arms": STUDY["arms"][:1]}}, "at least two arms"),
        ({"study": {**STUDY, "arms": STUDY["arms"][:1] * 2}}, "name of its own"),
        ({"requests": []}, "at least one request"),
        ({"requests": REQUESTS[:1] * 2}, "with a name of its own"),
        ({"connections": []}, "give numbers of at least 1"),
        ({"connections": [0]}, "at least 1"),
        ({"requests": [{"name": "x"}]}, "'x' has no path that begins"),
        ({"requests": [{"name": "x", "path": "y"}]}, "'x' has no path that begins"),
        (
            {"study": {**STUDY, "arms": [{"name": "a", "path": "x"}, {"name": "b"}]}},
            "path 'x' of a does not begin",
        ),
    ],
)
def test_what_cannot_be_compared(changes: Dict[str, Any], said: str) -> None:
    with pytest.raises(KeepaliveError, match=said):
        planned(**changes)


SERVED = {
    "name": "off",
    "url": "http://127.0.0.1:18700",
    "app_unit": "shop@blue.service",
    "app_socket": "unix:/run/shop/live.sock",
    "nginx_status_url": "http://127.0.0.1:18764/status",
}


@pytest.mark.parametrize("local", [True, False])
def test_a_load_goes_to_its_arm(local: bool) -> None:
    load = planned()["blocks"][0]["loads"][0]
    got = options(load, [SERVED], host="x.test", common={"threads": 2}, local=local)
    assert got["url"] == "http://127.0.0.1:18700/sync/"
    assert got["headers"] == {"Host": "x.test"}
    assert (got["name"], got["threads"]) == ("off", 2)
    assert ("app_socket" in got) == local
    assert ("nginx_status_url" in got) == local


def results(**run: Any) -> Dict[str, Any]:
    """Return one block's result as a loop of Ansible registers it."""
    block = planned()["blocks"][0]
    made = {"arm": "off", "round": 0, "valid": True, "invalid_reasons": [], **run}
    return {"runs": [made], "wrk_version": "4.1.0", "__block": block}


def test_results_become_runs() -> None:
    first, second = collect([results(), results(round=1)], [], local=True)
    assert first["case"] == "sync, 100 connections"
    assert [first["position"], second["position"]] == [0, 1]
    assert second["wrk_version"] == "4.1.0"


def test_a_witness_on_the_host_speaks_for_a_generator_elsewhere() -> None:
    said = {
        "valid": False,
        "invalid_reasons": ["connections are not kept alive"],
        "reuse": {"upstream": {"nginx": 1.0}},
    }
    warm_ups = [{"runs": [said], "__load": load} for load in planned()["warm_ups"]]
    (got,) = collect([results(reuse=None)], warm_ups, local=False)
    assert got["invalid_reasons"] == ["connections are not kept alive"]
    assert got["valid"] is False
    assert got["reuse"] == {"upstream": {"nginx": 1.0}}
