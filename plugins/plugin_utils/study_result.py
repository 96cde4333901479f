# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a benchmark study: what each arm measured, and what that says.

Made of the runs and nothing else, and of plain values only: it is the content
of ``benchmark.json``. ``docs/benchmark.schema.json`` tells the meaning and unit
of each field.
"""

from __future__ import annotations

import re
from statistics import fmean
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, TypedDict

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.arm_figures import (
    Arm,
    fleet_arm,
    host_arm,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.paired import (
    LEAST_PAIRS,
    effect,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_runs import (
    Case,
    Run,
    check_cases,
    normal_runs,
)

SCHEMA_VERSION = 1


class Comparison(TypedDict):
    """One arm against the base of its case, on one host.

    ``verdict`` is ``better``, ``worse``, ``inconclusive`` or ``invalid``; the last
    has ``reasons``, and no figure.
    """

    case: str
    arm: str
    base: str
    verdict: str
    reasons: List[str]
    ratio: Optional[float]
    low: Optional[float]
    high: Optional[float]
    confidence: float
    pairs: int
    pair_ratios: List[float]
    difference_percent: Optional[float]


class Host(TypedDict):
    """The conditions on a host, and what was measured there."""

    conditions: Dict[str, Any]
    arms: List[Arm]
    comparisons: List[Comparison]


class Fleet(TypedDict):
    """What can be told of all hosts together."""

    arms: List[Arm]


class Result(TypedDict):
    """All of a study."""

    schema_version: int
    study: str
    title: str
    created: str
    collection_version: str
    cases: List[Case]
    hosts: Dict[str, Host]
    fleet: Fleet
    runs: List[Run]


def build_result(
    *,
    study: str,
    title: str,
    created: str,
    collection_version: str,
    cases: Sequence[Case],
    hosts: Mapping[str, Mapping[str, Any]],
    confidence: float,
) -> Result:
    """Return the result of the runs of ``hosts``, ``created`` at that time in UTC.

    Raises KeepaliveError for cases and runs that contradict each other, for a
    histogram that is none, and for a library that the controller lacks.
    """
    check_cases(cases, confidence)
    runs = normal_runs(hosts, cases)
    return {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "title": title,
        "created": created,
        "collection_version": collection_version,
        "cases": list(cases),
        "hosts": {
            name: _host(name, measured, runs, cases, confidence)
            for name, measured in hosts.items()
        },
        "fleet": {"arms": _arms(runs, cases, fleet_arm)},
        "runs": runs,
    }


def _host(
    name: str,
    measured: Mapping[str, Any],
    runs: Sequence[Run],
    cases: Sequence[Case],
    confidence: float,
) -> Host:
    runs = [run for run in runs if run["host"] == name]
    return {
        "conditions": dict(measured.get("conditions") or {}),
        "arms": _arms(runs, cases, host_arm),
        "comparisons": [
            compare(case, arm, runs, confidence)
            for case in cases
            for arm in case["arms"]
            if arm != case["base"]
        ],
    }


def _arms(
    runs: Sequence[Run],
    cases: Sequence[Case],
    figures: Callable[[str, str, Sequence[Run]], Arm],
) -> List[Arm]:
    return [
        figures(case["name"], arm, _of_arm(runs, case["name"], arm))
        for case in cases
        for arm in case["arms"]
    ]


def _of_arm(runs: Sequence[Run], case: str, arm: str) -> List[Run]:
    return [run for run in runs if run["case"] == case and run["arm"] == arm]


def compare(case: Case, arm: str, runs: Sequence[Run], confidence: float) -> Comparison:
    """Compare one arm with its case's base over the rounds that have both.

    One run that is not valid makes the comparison invalid: leaving it out would
    choose among the pairs by their outcome.
    """
    base_runs = _of_arm(runs, case["name"], case["base"])
    arm_runs = _of_arm(runs, case["name"], arm)
    pairs = _pairs(base_runs, arm_runs)
    reasons = _doubts([*base_runs, *arm_runs], len(pairs))
    comparison: Comparison = {
        "case": case["name"],
        "arm": arm,
        "base": case["base"],
        "verdict": "invalid",
        "reasons": reasons,
        "ratio": None,
        "low": None,
        "high": None,
        "confidence": confidence,
        "pairs": len(pairs),
        "pair_ratios": [],
        "difference_percent": None,
    }
    if not reasons:
        try:
            _judge(comparison, *map(list, zip(*pairs)))
        except KeepaliveError as error:
            comparison["reasons"] = [str(error)]
    return comparison


def _judge(
    comparison: Comparison, base: Sequence[float], other: Sequence[float]
) -> None:
    """Fill in what the pairs say; raises KeepaliveError where they say nothing."""
    found = effect(base, other, comparison["confidence"])
    comparison["verdict"] = found.verdict
    comparison["ratio"] = round(found.ratio, 5)
    comparison["low"] = round(found.low, 5)
    comparison["high"] = round(found.high, 5)
    comparison["pair_ratios"] = [round(b / a, 5) for a, b in zip(base, other)]
    difference = (fmean(other) / fmean(base) - 1) * 100
    comparison["difference_percent"] = round(difference, 2)


def _pairs(base: Sequence[Run], other: Sequence[Run]) -> List[Sequence[float]]:
    """Return the rates of valid runs that share a round, in the rounds' order."""
    by_round = [
        {run["round"]: run["requests_per_s"] or 0 for run in runs if run["valid"]}
        for runs in (base, other)
    ]
    shared = sorted(set(by_round[0]) & set(by_round[1]))
    return [(by_round[0][number], by_round[1][number]) for number in shared]


def _doubts(runs: Sequence[Run], pairs: int) -> List[str]:
    """Return why these runs cannot be compared, each reason once."""
    reasons = _once([reason for run in runs for reason in run["invalid_reasons"]])
    if pairs < LEAST_PAIRS:
        reasons.append(
            "{0} valid {1}; at least {2} are needed".format(
                pairs, "pair" if pairs == 1 else "pairs", LEAST_PAIRS
            )
        )
    return reasons


def _once(reasons: Sequence[str]) -> List[str]:
    """Return the first of reasons that differ in numbers only, and how many follow."""
    alike: Dict[str, List[str]] = {}
    for reason in reasons:
        alike.setdefault(re.sub(r"\d+(\.\d+)?", "N", reason), []).append(reason)
    return [
        first + (" (and {0} more)".format(len(others)) if others else "")
        for first, *others in alike.values()
    ]
