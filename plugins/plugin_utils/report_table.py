# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark's result as text for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from typing import Dict, Iterable, List, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.plugin_utils import report_words
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.arm_figures import Arm
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_result import (
    Comparison,
    Host,
    Result,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_runs import Case

COLUMNS = 100
_NARROWEST = 8
_HEADS = ("arm", "runs", "average", "range", "p99 ms", "diff.")
_LEFT = (0, len(_HEADS) + 1)


def terminal_table(result: Result) -> str:
    """Return one block for each case and host, then the conditions and cautions."""
    lines = _wrapped(
        [sentence for _v, sentence in report_words.verdict_sentences(result)]
    )
    for case in result["cases"]:
        for name, host in result["hosts"].items():
            lines += ["", *_block(case, name, host)]
        if len(result["hosts"]) > 1:
            lines += ["", *_fleet_block(case, result["fleet"]["arms"])]
    lines += ["", *_wrapped(report_words.conditions_lines(result))]
    lines += _wrapped([" ".join(report_words.cautions(result))])
    return "\n".join(lines)


def _block(case: Case, host_name: str, host: Host) -> List[str]:
    compared = {
        each["arm"]: each
        for each in host["comparisons"]
        if each["case"] == case["name"]
    }
    confidence = next(map(report_words.confidence_words, compared.values()))
    rows = [[*_HEADS, "effect ({0} interval)".format(confidence), "verdict"]]
    reasons: List[str] = []
    for arm in host["arms"]:
        if arm["case"] == case["name"]:
            rows.append(_row(arm, compared))
            if arm["arm"] in compared:
                reasons += _reasons(compared[arm["arm"]])
    head = "{0} on {1}, requests/s".format(case["name"], host_name)
    return [*_wrapped([head]), *_aligned(rows, left=_LEFT), *_wrapped(reasons, "  ")]


def _row(arm: Arm, compared: Dict[str, Comparison]) -> List[str]:
    rates = arm["requests_per_s"]
    row = [
        arm["arm"],
        str(arm["runs"]),
        report_words.rate(rates["mean"]),
        _range(rates["min"], rates["max"]),
        report_words.figure(arm["latency_p99_ms"]),
    ]
    comparison = compared.get(arm["arm"])
    if comparison is None:
        return [*row, "base", "", ""]
    return [
        *row,
        report_words.difference(comparison),
        report_words.effect_with_interval(comparison),
        comparison["verdict"],
    ]


def _range(low: Optional[float], high: Optional[float]) -> str:
    if low is None or high is None:
        return report_words.ABSENT
    return "{0:.0f} to {1:.0f}".format(low, high)


def _reasons(comparison: Comparison) -> List[str]:
    return [
        "{0}: {1}".format(comparison["arm"], reason)
        for reason in report_words.shortened(comparison["reasons"])
    ]


def _fleet_block(case: Case, arms: Iterable[Arm]) -> List[str]:
    rows = [["arm", "hosts", "requests", *report_words.LATENCY_HEADS.values()]]
    rows += [
        [
            arm["arm"],
            str(arm["hosts"]),
            str(arm["requests"]),
            *(
                report_words.figure(arm["latency_{0}_ms".format(name)])
                for name in report_words.LATENCY_HEADS
            ),
        ]
        for arm in arms
        if arm["case"] == case["name"]
    ]
    head = "{0} on all hosts, latency in ms".format(case["name"])
    return [*_wrapped([head]), *_aligned(rows, left=(0,))]


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[int]) -> List[str]:
    """Return rows in columns two spaces apart, numbers to the right.

    The first column, a name, is cut where the others leave it no room.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    room = COLUMNS - sum(width + 2 for width in widths[1:]) - 2
    widths[0] = min(widths[0], max(room, _NARROWEST))
    rows = [[report_words.cut(row[0], widths[0]), *row[1:]] for row in rows]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def _wrapped(sentences: Sequence[str], indent: str = "") -> List[str]:
    return [
        line
        for sentence in sentences
        for line in textwrap.wrap(
            sentence, COLUMNS, initial_indent=indent, subsequent_indent=indent + "  "
        )
    ]
