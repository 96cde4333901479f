# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.benchmark_run import (
    Arm,
    Load,
    benchmark,
    figures,
    is_steady,
    take_turns,
    warm_up,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.wrk import (
    WrkPlan,
    WrkRun,
    parse,
)

CAPTURED = Path(__file__).parent / "fixtures" / "wrk"
GOOD = parse((CAPTURED / "ok.txt").read_text(encoding="utf-8"))
HUNG = parse((CAPTURED / "hangs.txt").read_text(encoding="utf-8"))
PLAN = WrkPlan("http://127.0.0.1:9100/", connections=2, duration_s=7)


def run_at(rate: int) -> WrkRun:
    errors = dict.fromkeys(("connect", "read", "write", "timeout", "status"), 0)
    return WrkRun(1_000_000, rate, 0, errors, {}, {100: rate})


class Wrk:
    """Gives one run after the other, and keeps how long each was to last."""

    def __init__(self, *runs: WrkRun) -> None:
        self.runs: Iterator[WrkRun] = iter(runs)
        self.durations_s: List[int] = []

    def __call__(self, plan: WrkPlan) -> WrkRun:
        self.durations_s.append(plan.duration_s)
        return next(self.runs)


def alike(_plan: WrkPlan) -> int:
    return 40


def measured(wrk: Wrk, warmup_max_s: int = 0) -> Dict[str, Any]:
    load = Load(PLAN, app_pid=1)
    return benchmark(load, wrk, alike, warmup_max_s=warmup_max_s, proc=Path("/proc"))


@pytest.mark.parametrize(
    ("rates", "steady"),
    [
        ([], False),
        ([100.0, 100.0], False),
        ([100.0, 104.0, 96.0], True),
        ([100.0, 106.0, 100.0], False),
        ([10.0, 50.0, 100.0, 101.0, 99.0], True),
        ([0.0, 0.0, 0.0], False),
    ],
)
def test_a_rate_is_steady_when_three_slices_agree(
    rates: List[float], steady: bool
) -> None:
    assert is_steady(rates) == steady


def test_warm_up_ends_when_the_rate_is_steady() -> None:
    wrk = Wrk(*map(run_at, (10, 60, 98, 100, 99, 1)))
    warm = warm_up(PLAN, wrk, 30)
    assert warm.rates_per_s == [10, 60, 98, 100, 99]
    assert warm.steady
    assert wrk.durations_s == [1] * 5


def test_warm_up_ends_in_any_case() -> None:
    warm = warm_up(PLAN, Wrk(*map(run_at, (10, 20, 40, 80, 1))), 4)
    assert len(warm.rates_per_s) == 4
    assert not warm.steady


def test_a_measurement_without_doubt() -> None:
    wrk = Wrk(*map(run_at, (100, 100, 100)), GOOD)
    result = measured(wrk, warmup_max_s=10)
    assert (result["valid"], result["invalid_reasons"]) == (True, [])
    assert wrk.durations_s == [1, 1, 1, 7]
    assert result["requests"] == GOOD.requests
    assert result["cpu_app_s"] >= 0
    assert result["reuse"] is None
    assert len(result["latency_histogram"]) < 8192


def test_a_rate_that_never_became_steady_is_told() -> None:
    result = measured(Wrk(*map(run_at, (10, 20)), GOOD), warmup_max_s=2)
    assert not result["valid"]
    assert "not steady after 2 s" in result["invalid_reasons"][0]


def test_an_invalid_measurement_still_has_its_numbers() -> None:
    result = measured(Wrk(HUNG))
    assert not result["valid"]
    assert result["requests"] == 0
    assert result["latency_p99_ms"] is None
    assert result["cycle_time_ms"] is None


def refuse(_plan: WrkPlan) -> WrkRun:
    raise KeepaliveError("wrk ended with status 1: unable to connect")


def test_a_run_that_could_not_be_made_is_invalid() -> None:
    result = benchmark(Load(PLAN), refuse, alike, warmup_max_s=0, proc=Path("/proc"))
    assert result == {
        "valid": False,
        "invalid_reasons": ["wrk ended with status 1: unable to connect"],
    }


def arm(measure: Callable[[WrkPlan], WrkRun]) -> Arm:
    return Arm(Load(PLAN), measure, Path("/proc"))


def test_arms_take_turns_and_every_other_round_goes_backwards() -> None:
    thrown_away = Wrk(HUNG, *[GOOD] * 3)
    arms = {"off": arm(thrown_away), "on": arm(Wrk(*[GOOD] * 3))}
    runs = take_turns(arms, rounds=3, first_round=3)
    assert [(run["round"], run["arm"]) for run in runs] == [
        *((3, "on"), (3, "off")),
        *((4, "off"), (4, "on")),
        *((5, "on"), (5, "off")),
    ]
    assert all(run["valid"] for run in runs)


def test_a_warm_up_is_told_with_every_run_and_makes_none_invalid() -> None:
    warmed = arm(Wrk(*map(run_at, (10, 20, 40)), GOOD))
    warmed.prepare(alike, 3)
    run = warmed.run()
    assert run["valid"]
    assert run["warmup_steady"] is False
    assert run["warmup_rates_per_s"] == [10, 20, 40]


def test_an_arm_that_does_not_answer_leaves_the_others_alone() -> None:
    def refuse_to_answer(_plan: WrkPlan) -> int:
        raise KeepaliveError("http://127.0.0.1:9100/ answers with status 307")

    broken, sound = arm(refuse), arm(Wrk(GOOD, GOOD))
    broken.prepare(refuse_to_answer, 0)
    sound.prepare(alike, 0)
    first, second = take_turns({"a": broken, "b": sound}, rounds=1, first_round=0)
    assert first["invalid_reasons"] == [
        "http://127.0.0.1:9100/ answers with status 307"
    ]
    assert second["valid"]


def test_a_generator_that_fails_makes_the_run_invalid() -> None:
    assert "unable to connect" in arm(refuse).run()["invalid_reasons"][0]


def test_cycle_time_holds_what_latency_leaves_out() -> None:
    told = figures(PLAN, run_at(1000))
    assert told["requests_per_s"] == 1000
    assert told["cycle_time_ms"] == 2.0
    assert told["latency_p50_ms"] == 0.1
    assert told["errors"]["status"] == 0
