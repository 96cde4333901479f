# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a rollout goes on, when it stops, and what it says at its end."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_end import (
    after,
    promotion,
    result,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_gates import (
    judged,
    reason_of,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_verdict import (
    Gate,
    Limits,
    Seen,
    events_of,
    judge,
    seen_of,
)

STRICT = Limits(max_failed=0, max_unreachable=0, inconclusive="stop")
GOOD = Gate("health", "pass")
BAD = Gate("health", "fail", "3 of 200 requests lost")
DOUBT = Gate("command", "inconclusive", "exit status 2")


def deployed(name: str, *gates: Gate) -> Seen:
    return Seen(name, "deployed", "", "two", changed=True, gates=gates)


# --- the verdict


def test_what_is_well_goes_on() -> None:
    found = judge([deployed("a", GOOD)], ["a"], [], STRICT)
    assert found == {"verdict": "pass", "reasons": []}


def test_a_gate_that_fails_stops_it() -> None:
    found = judge([deployed("a", GOOD), deployed("b", BAD)], ["a", "b"], [], STRICT)
    assert found["verdict"] == "fail"
    assert found["reasons"] == ["b: gate health: 3 of 200 requests lost"]


def test_a_gate_of_the_wave_stops_it() -> None:
    found = judge([deployed("a")], ["a"], [Gate("command", "fail", "alert")], STRICT)
    assert found == {"verdict": "fail", "reasons": ["gate command: alert"]}


def test_a_host_that_is_silent_counts_as_unreachable() -> None:
    silent = seen_of({"inventory_hostname": "b"})
    found = judge([deployed("a", GOOD), silent], ["a", "b"], [], STRICT)
    assert found == {"verdict": "fail", "reasons": ["unreachable: b"]}


def test_hosts_of_all_waves_count() -> None:
    hosts = [Seen("a", "failed", "no disk\nmore"), deployed("b"), Seen("c", "failed")]
    one = Limits(1, 0, "stop")
    assert judge(hosts[:2], ["a", "b"], [], one)["verdict"] == "pass"
    found = judge(hosts, ["c"], [], one)
    assert found["verdict"] == "fail"
    assert found["reasons"][0] == "a could not be deployed to: no disk"


def test_hosts_that_were_not_ready_count_as_failed() -> None:
    failed = Limits(max_failed=1, max_unreachable=0, inconclusive="stop", unfit=1)
    assert judge([deployed("a")], ["a"], [], failed)["verdict"] == "pass"
    hosts = [Seen("a", "failed", "no disk"), deployed("b")]
    assert judge(hosts, ["a", "b"], [], failed)["verdict"] == "fail"


def test_gates_of_earlier_waves_were_judged_then() -> None:
    assert (
        judge([deployed("a", BAD), deployed("b")], ["b"], [], STRICT)["verdict"]
        == "pass"
    )


@pytest.mark.parametrize(
    ("wish", "verdict"), [("stop", "inconclusive"), ("continue", "pass")]
)
def test_in_doubt_it_is_the_users_choice(wish: str, verdict: str) -> None:
    found = judge([deployed("a", DOUBT)], ["a"], [], Limits(0, 0, wish))
    assert found["verdict"] == verdict
    assert found["reasons"] == ["a: gate command: exit status 2"]


def test_those_before_it_began_count_as_unreachable_too() -> None:
    hosts = [deployed("a"), Seen("b")]
    limits = Limits(0, 1, "stop", unreachable=1)
    assert judge(hosts, ["a", "b"], [], limits)["reasons"] == ["unreachable: b"]
    assert judge(hosts[:1], ["a"], [], limits)["verdict"] == "pass"


def test_a_gate_that_said_nothing_is_a_doubt() -> None:
    asked = Limits(0, 0, "stop", gates=["health", "findings"])
    found = judge([deployed("a", GOOD)], ["a"], [], asked)
    assert found["reasons"] == ["a: gate findings: it said nothing"]
    quiet = Seen("a", "deployed", "", "two", changed=False)
    assert judge([quiet], ["a"], [], asked)["verdict"] == "pass"


def test_a_host_that_a_gate_cannot_reach_is_unreachable() -> None:
    gone = {"gate": "health", "verdict": "unreachable", "reason": "timed out"}
    seen = seen_of(facts("a", rollout_outcome=TWO, rollout_told=[gone]))
    assert judge([seen], ["a"], [], Limits(0, 1, "stop"))["verdict"] == "pass"
    assert judge([seen], ["a"], [], STRICT)["reasons"] == ["unreachable: a"]


def test_a_failure_outweighs_doubt() -> None:
    found = judge([deployed("a", DOUBT, BAD)], ["a"], [], Limits(0, 0, "continue"))
    assert found["verdict"] == "fail"


def test_events_are_of_the_wave_alone() -> None:
    hosts = [deployed("a", GOOD), deployed("b", BAD), Seen("c")]
    found = judge(hosts, ["b", "c"], [], STRICT)
    events = events_of(hosts, ["b", "c"], found, 1)
    assert [(each["event"], each.get("host")) for each in events] == [
        ("deployed", "b"),
        ("gate", "b"),
        ("unreachable", "c"),
        ("judged", None),
    ]
    assert all(each["wave"] == 1 for each in events)


# --- the gates


@pytest.mark.parametrize(
    ("result", "verdict", "reason"),
    [
        ({"requests": 200, "lost": 0}, "pass", "0 of 200 requests lost"),
        (
            {"requests": 200, "lost": 1, "failures": [{"lane": "GET", "way": "x"}]},
            "fail",
            "1 of 200 requests lost, the first: lane GET, way x",
        ),
        ({"failed": True, "msg": "no lanes\nx"}, "inconclusive", "no lanes"),
        ({"unreachable": True, "msg": "timed out"}, "unreachable", "timed out"),
        ({"requests": 0, "lost": 0}, "inconclusive", "it sent no request"),
    ],
)
def test_the_probe(result: dict[str, Any], verdict: str, reason: str) -> None:
    assert judged("probe", result) == Gate("probe", verdict, reason)


def test_findings() -> None:
    warning = {"severity": "warning", "id": "w", "reason": "r"}
    error = {"severity": "error", "id": "race", "reason": "the app closes first"}
    assert judged("findings", {"findings": [warning]}).verdict == "pass"
    found = judged("findings", {"findings": [warning, error]})
    assert found == Gate("findings", "fail", "race: the app closes first")
    assert (
        judged("findings", {"failed": True, "msg": "no nginx"}).verdict
        == "inconclusive"
    )


@pytest.mark.parametrize(
    ("result", "verdict", "reason"),
    [
        ({"rc": 0, "stdout": "quiet\n"}, "pass", "quiet"),
        ({"rc": 1, "stderr": "2 alerts\nmore"}, "fail", "2 alerts"),
        ({"rc": 1}, "fail", "exit status 1"),
        (
            {"rc": 2, "stderr": "no route\nx", "msg": "non-zero return code"},
            "inconclusive",
            "exit status 2; no route",
        ),
        ({"rc": 2, "msg": "non-zero return code"}, "inconclusive", "exit status 2"),
        ({"failed": True, "msg": "timed out"}, "inconclusive", "timed out"),
    ],
)
def test_the_command(result: dict[str, Any], verdict: str, reason: str) -> None:
    assert judged("command", result) == Gate("command", verdict, reason)


def compared(low: float, high: float) -> dict[str, Any]:
    comparison = {"case": "items", "host": "a", "ratio": 1.0, "low": low, "high": high}
    return {"comparisons": [comparison]}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.96, 1.02, "pass"),
        (0.95, 1.02, "pass"),
        (0.94, 1.02, "inconclusive"),
        (0.85, 0.94, "fail"),
        (0.85, 0.96, "inconclusive"),
    ],
)
def test_the_benchmark(low: float, high: float, verdict: str) -> None:
    assert judged("benchmark", compared(low, high), 5).verdict == verdict


def test_a_benchmark_that_is_invalid_cannot_tell() -> None:
    invalid = {
        "case": "items",
        "host": "a",
        "ratio": None,
        "low": None,
        "high": None,
        "reasons": ["no answers"],
    }
    told = judged("benchmark", {"comparisons": [invalid]}, 5)
    assert told == Gate("benchmark", "inconclusive", "items on a: invalid, no answers")
    assert judged("benchmark", {"failed": True, "msg": "no wrk"}).reason == "no wrk"


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"msg": "no disk\nmore"}, "no disk"),
        ({"msg": "Validation of arguments failed:\nx is not y"}, "x is not y"),
        (
            {
                "msg": "One or more items failed",
                "results": [{"msg": "fine"}, {"failed": True, "msg": "item 2 is bad"}],
            },
            "item 2 is bad",
        ),
        ({}, "see above"),
    ],
)
def test_why_a_task_failed(result: dict[str, Any], reason: str) -> None:
    assert reason_of(result) == reason


# --- the end


def facts(name: str, **known: Any) -> dict[str, Any]:
    return {
        "inventory_hostname": name,
        "__fastapi_service_host": {"live_release": "one"},
        **{"__fastapi_" + key: value for key, value in known.items()},
    }


ONE = {"release_to": "one"}
TWO = {"state": "deployed", "release": "two", "changed": True}


def test_who_is_promoted_and_who_is_lost() -> None:
    tried = {"service_confirmed": {"on_trial": True}, "rollout_outcome": TWO}
    known = [
        facts("a", **tried, rollout_promoted={"changed": True, "release": "two"}),
        facts("b", **tried, rollout_promoted={"failed": True}),
        facts("c", **tried),
        facts("d", rollout_outcome={**TWO, "changed": False}),
        facts("e", **tried, rollout_promoted={"changed": True, "release": "one"}),
        facts("f", rollout_outcome={"state": "failed"}, service_confirmed=None),
        facts("g", **tried, rollout_promoted={"unreachable": True}),
    ]
    assert promotion(known) == {
        "promoted": ["a"],
        "lost": ["b", "c", "e"],
        "gone": ["g"],
    }


KEPT = (
    "unreachable; it KEEPS two, which was confirmed, until playbooks/rollback.yml is "
    "run there"
)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (
            {
                "rollout_outcome": TWO,
                "rollout_returned": {"changed": True, "release_to": "one"},
            },
            "went back to one",
        ),
        (
            {"rollout_returned": {"changed": False, "release_to": "one"}},
            "still runs one",
        ),
        (
            {
                "rollout_returned": {"changed": True, "release_to": "one"},
                "rollout_nginx_returned": {"failed": True},
            },
            "went back to one; its nginx.conf COULD NOT be put back",
        ),
        (
            {"rollout_returned": {"failed": True, "msg": "no\nmore"}},
            "COULD NOT GO BACK: no",
        ),
        (
            {"rollout_outcome": TWO, "rollout_returned": {"skipped": True}},
            "two, which had nothing before it",
        ),
        ({}, "unreachable; if it was on trial, it goes back to one by itself"),
        (
            {"rollout_outcome": TWO, "rollout_returned": {"unreachable": True}},
            "unreachable; if it was on trial, it goes back to one by itself",
        ),
        (
            {
                "rollout_outcome": TWO,
                "rollout_promoted": {"release": "two"},
                "rollout_returned": {"unreachable": True},
            },
            KEPT,
        ),
    ],
)
def test_what_a_host_runs_after_a_stop(known: dict[str, Any], said: str) -> None:
    assert after(facts("a", **known), stopped=True) == said


def test_a_failure_that_was_allowed_is_told() -> None:
    failed = {"state": "failed", "reason": "no disk\nmore"}
    told = after(facts("a", rollout_outcome=failed), stopped=False)
    assert told == "FAILED: no disk; it ran one"
    assert after(facts("a"), stopped=False) == "UNREACHABLE: no answer; it ran one"


ROLLOUT: dict[str, Any] = {
    "service": "shop",
    "plan": [["a"], ["b"]],
    "before": {"a": "x", "b": "y"},
    "unfit": [],
    "unreachable": [],
}


def test_one_screen() -> None:
    known = [
        facts("a", rollout_outcome=TWO),
        facts("b", rollout_outcome={**TWO, "changed": False}),
    ]
    told = result(known, ROLLOUT, 2, [])
    assert not told["stopped"]
    assert told["lines"] == [
        "The rollout of shop reached all waves.",
        "wave 1, a: two",
        "wave 2, b: two, as before",
    ]
    told = result(known, ROLLOUT, 0, ["a: gate health: 3 of 200 requests lost"])
    assert told["stopped"]
    assert told["lines"][:2] == [
        "The rollout of shop STOPPED in wave 1 of 2.",
        "Why: a: gate health: 3 of 200 requests lost",
    ]
    (_stopped, why, *_hosts) = result(known, ROLLOUT, 1, [])["lines"]
    assert (
        why == "Why: the wave could not be judged; the task above that failed tells why"
    )


def test_who_was_left_out_is_told() -> None:
    rollout = {
        **ROLLOUT,
        "plan": [["a"]],
        "unfit": ["c"],
        "unreachable": ["d"],
        "before": {"a": "x", "d": "y", "e": "z"},
    }
    told = result([facts("a", rollout_outcome=TWO)], rollout, 1, [])
    assert told["lines"][2:] == [
        "c: left out, for it was unfit",
        "d: left out, for it was unreachable",
        "e: was in the run that was interrupted, and is not in this",
    ]
