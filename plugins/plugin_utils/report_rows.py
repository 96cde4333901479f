# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of a benchmark's report, as text in cells, for Markdown and HTML."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.plugin_utils import report_words
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.arm_figures import (
    CPU_CONSUMERS,
    Arm,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_result import (
    Comparison,
    Host,
    Result,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_runs import (
    WITNESSES,
    Run,
)

_TWO_ARMS = 2


class Table(NamedTuple):
    """Heads and rows of the same length."""

    heads: List[str]
    rows: List[List[str]]


def rates(host: Host, result: Result) -> Table:
    """Return rates and effects: a row for a case of two arms, else one for an arm."""
    arms = result["cases"][0]["arms"]
    alike = all(case["arms"] == arms for case in result["cases"])
    if alike and len(arms) == _TWO_ARMS:
        return _rates_by_case(host, arms)
    return rates_by_arm(host)


def _rates_by_case(host: Host, names: Sequence[str]) -> Table:
    heads = ["case"]
    for name in names:
        heads += ["{0}: runs".format(name), "{0}: average".format(name)]
    arms = {(arm["case"], arm["arm"]): arm for arm in host["arms"]}
    rows = []
    for comparison in host["comparisons"]:
        row = [comparison["case"]]
        for name in names:
            row += _rates(arms[comparison["case"], name])
        rows.append(row + _judged(comparison))
    return Table([*heads, "difference", _effect_head(host), "verdict"], rows)


def rates_by_arm(host: Host) -> Table:
    """Return the rates of each arm's runs, and what they say against the base."""
    compared = {(each["case"], each["arm"]): each for each in host["comparisons"]}
    rows = [
        [
            arm["case"],
            arm["arm"],
            *_rates(arm),
            *_judged(compared.get((arm["case"], arm["arm"]))),
        ]
        for arm in host["arms"]
    ]
    heads = ["case", "arm", "runs", "average", "difference", _effect_head(host)]
    return Table([*heads, "verdict"], rows)


def _rates(arm: Arm) -> List[str]:
    spread = arm["requests_per_s"]
    return [
        " ".join(report_words.rate(each) for each in spread["runs"]),
        report_words.rate(spread["mean"]),
    ]


def _judged(comparison: Optional[Comparison]) -> List[str]:
    if comparison is None:
        return ["base", "", ""]
    return [
        report_words.difference(comparison),
        report_words.effect_with_interval(comparison),
        comparison["verdict"],
    ]


def _effect_head(host: Host) -> str:
    return "effect ({0} interval)".format(
        report_words.confidence_words(host["comparisons"][0])
    )


def costs(host: Host) -> Table:
    """Return latencies (ms), CPU time per request (µs) and errors of each arm."""
    rows = [
        [
            arm["case"],
            arm["arm"],
            *_latencies(arm),
            *(
                report_words.figure(arm["cpu_us_per_request"][consumer])
                for consumer in CPU_CONSUMERS
            ),
            str(sum(arm["errors"].values())),
        ]
        for arm in host["arms"]
    ]
    heads = ["case", "arm", *report_words.LATENCY_HEADS.values()]
    return Table([*heads, *("CPU " + name for name in CPU_CONSUMERS), "errors"], rows)


def _latencies(arm: Arm) -> List[str]:
    return [
        report_words.figure(arm["latency_{0}_ms".format(name)])
        for name in report_words.LATENCY_HEADS
    ]


def reuse(host: Host) -> Table:
    """Return connections opened per request, by arm, hop and witness."""
    rows = [
        [arm["case"], arm["arm"], report_words.HOP_NAMES[hop], *_witnessed(said)]
        for arm in host["arms"]
        for hop, said in arm["connections_per_request"].items()
        if said
    ]
    return Table(
        ["case", "arm", "hop", "by nginx", "by kernel", "kernel bounds", "agree"], rows
    )


def _witnessed(said: Dict[str, Any]) -> List[str]:
    bounds = report_words.ABSENT
    if said["kernel_low"] != said["kernel_high"]:
        bounds = "{0} to {1}".format(
            *(report_words.figure(said[end]) for end in ("kernel_low", "kernel_high"))
        )
    told = [report_words.figure(said[witness]) for witness in WITNESSES]
    return [*told, bounds, report_words.text(said["agree"])]


def conditions(host: Host) -> Table:
    """Return what the runs were made under."""
    return Table(
        ["condition", "value"], [list(p) for p in report_words.conditions(host)]
    )


def fleet(result: Result) -> Table:
    """Return the latencies (ms) of the requests of all hosts."""
    rows = [
        [
            arm["case"],
            arm["arm"],
            str(arm["hosts"]),
            str(arm["requests"]),
            *_latencies(arm),
        ]
        for arm in result["fleet"]["arms"]
    ]
    heads = ["case", "arm", "hosts", "requests", *report_words.LATENCY_HEADS.values()]
    return Table(heads, rows)


def runs(host_name: str, result: Result) -> Table:
    """Return every run of a host in the order measured."""
    ordered = sorted(
        (run for run in result["runs"] if run["host"] == host_name),
        key=lambda run: (run["case"], run["position"]),
    )
    heads = ["case", "position", "round", "arm", "requests/s", "50 %", "99 %"]
    return Table(
        [*heads, "errors", "steal s", "load", "valid"], list(map(_run, ordered))
    )


def _run(run: Run) -> List[str]:
    return [
        run["case"],
        str(run["position"]),
        str(run["round"]),
        run["arm"],
        report_words.rate(run["requests_per_s"]),
        report_words.figure(run["latency_p50_ms"]),
        report_words.figure(run["latency_p99_ms"]),
        str(sum((run["errors"] or {}).values())),
        report_words.figure(run["cpu_steal_s"]),
        report_words.figure(run["load_1m"]),
        report_words.text(run["valid"]),
    ]
