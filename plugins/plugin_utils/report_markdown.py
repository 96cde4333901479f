# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark's result as Markdown, with every run's rate."""

from __future__ import annotations

from typing import List

from ansible_collections.keepalive.fastapi.plugins.plugin_utils import (
    report_rows,
    report_words,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_result import (
    Host,
    Result,
)

_REUSE_HINT = (
    "1 is a new connection for every request, 0 is none. nginx and the kernel count "
    "independently; where the kernel's count is an estimate, its bounds stand beside."
)


def markdown_report(result: Result) -> str:
    """Return the whole report; its tables are those of GitHub's Markdown."""
    parts = ["# {0}".format(_escaped(result["title"]))]
    parts += [
        "**{0}**".format(_escaped(sentence))
        for _verdict, sentence in report_words.verdict_sentences(result)
    ]
    for name, host in result["hosts"].items():
        parts += _host_parts(name, host, result)
    if len(result["hosts"]) > 1:
        parts += ["## All hosts: latency of all requests (ms)"]
        parts += [_table(report_rows.fleet(result))]
    parts.append("## What not to read into it")
    parts.append(
        "\n".join("- " + _escaped(said) for said in report_words.cautions(result))
    )
    parts.append(
        "Study {0}, {1}, keepalive.fastapi {2}. Every figure is in "
        "benchmark.json.".format(
            _escaped(result["study"]), result["created"], result["collection_version"]
        )
    )
    return "\n\n".join(parts) + "\n"


def _host_parts(name: str, host: Host, result: Result) -> List[str]:
    parts = ["## {0}: requests/s".format(_escaped(name))]
    parts.append(_table(report_rows.rates(host, result)))
    reasons = report_words.reasons(host)
    if reasons:
        parts.append("Invalid because of:")
        parts.append("\n".join("- " + _escaped(reason) for reason in reasons))
    parts.append("### Latency (ms), CPU time per request (µs), errors")
    parts.append(_table(report_rows.costs(host)))
    reuse = report_rows.reuse(host)
    if reuse.rows:
        parts += ["### Connections opened per request", _REUSE_HINT, _table(reuse)]
    if host["conditions"]:
        parts += ["### Conditions", _table(report_rows.conditions(host))]
    return parts


def _table(table: report_rows.Table) -> str:
    lines = [table.heads, ["---"] * len(table.heads), *table.rows]
    return "\n".join(
        "| {0} |".format(" | ".join(_escaped(cell) for cell in line)) for line in lines
    )


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in a table too."""
    for mark in "\\|*_`<[":
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
