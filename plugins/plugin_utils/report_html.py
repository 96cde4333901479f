# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark's result as one HTML file that needs nothing else: no script, no net."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Sequence

from ansible_collections.keepalive.fastapi.plugins.plugin_utils import (
    report_plots,
    report_rows,
    report_words,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.arm_figures import Arm
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.paired import (
    RESOLUTION,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_files import (
    page_environment,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_result import (
    Result,
)
from markupsafe import Markup

_TEMPLATE = "report.html.j2"
# Plots and tables of more hosts than this wait to be unfolded.
_UNFOLDED_HOSTS = 2
_SYMBOLS = {
    "better": "▲",
    "worse": "▼",
    "inconclusive": "◆",
    "mixed": "◆",
    "invalid": "✕",
}


class Plot(NamedTuple):
    """A plot with its heading, and how to read it."""

    head: str
    hint: str
    svg: Markup


def html_report(result: Result) -> str:
    """Return the page; raises KeepaliveError where matplotlib is missing."""
    environment = page_environment()
    environment.filters["typeset"] = report_words.typeset
    numbers = report_plots.arm_numbers(result)
    hosts = [
        _host(name, "host-{0}".format(place), result, numbers)
        for place, name in enumerate(result["hosts"])
    ]
    overview = _overview(result, numbers)
    if len(hosts) == 1:
        overview += hosts[0].pop("plots")
    page: str = environment.get_template(_TEMPLATE).render(
        result=result,
        sentences=report_words.verdict_sentences(result),
        questions=dict.fromkeys(case["question"] for case in result["cases"]),
        overview=overview,
        fleet=report_rows.fleet(result) if len(hosts) > 1 else None,
        hosts=hosts,
        unfolded=len(hosts) <= _UNFOLDED_HOSTS,
        symbols=_SYMBOLS,
        cautions=report_words.cautions(result),
    )
    return page


def _overview(result: Result, numbers: report_plots.ArmNumbers) -> List[Plot]:
    """Return the plots of all hosts together."""
    if not result["hosts"]:
        return []
    plots = [
        Plot(
            "Effect on requests per second",
            "The marker is the effect, the line its interval, each stroke below it one "
            "pair of runs. The arm is better or worse if the whole line is more than "
            "{0:.0f} % from 0.".format(RESOLUTION * 100),
            _markup(report_plots.forest_plot("effect", result, numbers)),
        )
    ]
    if len(result["hosts"]) > 1:
        for place, case in enumerate(result["cases"]):
            arms = _of_case(result["fleet"]["arms"], case["name"])
            where = "{0}, all hosts".format(case["name"])
            if any(arm["requests"] for arm in arms):
                plots.append(_latency("fleet-{0}".format(place), where, arms, numbers))
    return plots


def _host(
    name: str, identifier: str, result: Result, numbers: report_plots.ArmNumbers
) -> Dict[str, Any]:
    host = result["hosts"][name]
    plots: List[Plot] = []
    for place, case in enumerate(result["cases"]):
        runs = [
            run
            for run in result["runs"]
            if run["host"] == name and run["case"] == case["name"]
        ]
        arms = _of_case(host["arms"], case["name"])
        key, where = "{0}-{1}".format(identifier, place), case["name"]
        if any(arm["requests"] for arm in arms):
            plots.append(_latency(key, where, arms, numbers))
            plots.append(_order(key, where, runs, numbers))
        if any(any(arm["connections_per_request"].values()) for arm in arms):
            plots.append(_reuse(key, where, arms, numbers))
    return {
        "name": name,
        "plots": plots,
        "reasons": report_words.reasons(host),
        "rates": report_rows.rates_by_arm(host),
        "costs": report_rows.costs(host),
        "reuse": report_rows.reuse(host),
        "runs": report_rows.runs(name, result),
        "conditions": report_rows.conditions(host),
    }


def _of_case(arms: Sequence[Arm], case: str) -> List[Arm]:
    return [arm for arm in arms if arm["case"] == case]


def _latency(key: str, where: str, arms: Sequence[Arm], numbers: Any) -> Plot:
    return Plot(
        "Latency: {0}".format(where),
        "All requests of all runs. Each mark of the lower axis is ten times rarer, so "
        "the slowest requests are seen as well as the usual ones.",
        _markup(report_plots.latency_plot(key + "-latency", where, arms, numbers)),
    )


def _order(key: str, where: str, runs: Sequence[Any], numbers: Any) -> Plot:
    return Plot(
        "Run order: {0}".format(where),
        "Joined runs were made next to each other. What slowed both down leaves their "
        "ratio as it is.",
        _markup(report_plots.order_strip(key + "-order", where, runs, numbers)),
    )


def _reuse(key: str, where: str, arms: Sequence[Arm], numbers: Any) -> Plot:
    return Plot(
        "Connections: {0}".format(where),
        "1 is a new connection for every request, 0 is none. Each hop has two "
        "witnesses. Where the kernel's is an estimate, a thin line shows its bounds.",
        _markup(report_plots.reuse_bars(key + "-reuse", where, arms, numbers)),
    )


def _markup(svg: str) -> Markup:
    """Return SVG that the template takes as it is: page_svg has escaped its text."""
    return Markup(svg)  # noqa: S704
