# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plots of a benchmark's result.

Each returns SVG for a page; ``page_svg`` tells of its colours and size.
"""

from __future__ import annotations

import textwrap
from math import floor, log10
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

from ansible_collections.keepalive.fastapi.plugins.plugin_utils import report_words
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.arm_figures import Arm
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.histograms import (
    latency_curve,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.page_svg import (
    BG,
    FG,
    MUTED,
    arm_colour,
    draw,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_result import (
    Comparison,
    Result,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_runs import (
    HOPS,
    Run,
)

MARKERS = "osD^vPX"
_LINES = ("-", "--", "-.", ":")
_LABEL_COLUMNS = 38
_LINE_PT = 11
_INTERVAL_PT = 24
_GAP_PT = 8
_BAR_PT = 13
_AXIS_PT = 34
_PERCENTS = (50, 90, 99, 99.9, 99.99, 99.999)

_LEAST_MS = 0.001
_CURVES_PT = 178
_STRIP_PT = 148
_INVALID = "invalid"
_WIDEST_NAME = 14
_KEY_COLUMNS = 7
_LEAST = 0.1
_MANY = 300


# The number of each arm of the study, which its colour and marker follow.
ArmNumbers = Dict[str, int]


def arm_numbers(result: Result) -> ArmNumbers:
    """Return the arms in the order they are named; the same name is the same arm."""
    names = [arm for case in result["cases"] for arm in case["arms"]]
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def forest_plot(name: str, result: Result, numbers: ArmNumbers) -> str:
    """Return the effect of every comparison with its interval and its pairs."""
    rows = [
        (_forest_head(result, host, comparison), comparison)
        for host, measured in result["hosts"].items()
        for comparison in measured["comparisons"]
    ]
    height = sum(_forest_height(*row) for row in rows)

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=0.8)
        top = 0
        for head, comparison in rows:
            _forest_row(axes, top, head, comparison, numbers)
            top -= _forest_height(head, comparison)
        # One unit is a point, as nearly as the layout allows.
        axes.set_ylim(-height, 0)
        _forest_axis(axes, [comparison for _head, comparison in rows])

    said = " ".join(
        "{0}: {1}.".format(" ".join(head), _forest_figures(comparison))
        for head, comparison in rows
    )
    title = "Effect on requests per second"
    return draw(name, title, said, height + _AXIS_PT, fill)


def _forest_axis(axes: Any, comparisons: Sequence[Comparison]) -> None:
    axes.set_xlim(*_forest_limits(comparisons))
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda x, _at: _signed(x))
    axes.set_xlabel("change of requests/s against the base")
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])


def _signed(percent: float) -> str:
    return report_words.typeset("{0:+g} %".format(percent)) if percent else "0 %"


def _forest_head(result: Result, host: str, comparison: Comparison) -> List[str]:
    """Return the lines that tell this comparison from the others."""
    arms = {case["name"]: len(case["arms"]) for case in result["cases"]}
    named = [
        host if len(result["hosts"]) > 1 else "",
        comparison["arm"] if arms[comparison["case"]] > 2 else "",  # noqa: PLR2004 - the other of two needs no name
    ]
    if len(arms) > 1 or not any(named):
        named.insert(1, comparison["case"])
    head = ": ".join(part for part in named if part)
    return textwrap.wrap(head, _LABEL_COLUMNS, max_lines=3, placeholder=" …")


def _forest_height(head: Sequence[str], comparison: Comparison) -> int:
    text = _LINE_PT * (len(head) + 1)
    return text + (_GAP_PT if comparison["ratio"] is None else _INTERVAL_PT)


def _forest_figures(comparison: Comparison) -> str:
    if comparison["ratio"] is None:
        return "no figure: invalid"
    said = report_words.effect_with_interval(comparison)
    return report_words.typeset("{0}: {1}".format(said, comparison["verdict"]))


def _forest_row(
    axes: Any,
    top: float,
    head: Sequence[str],
    comparison: Comparison,
    numbers: ArmNumbers,
) -> None:
    """Write the row's lines and draw its interval, downwards from ``top``."""
    box = {"facecolor": BG, "edgecolor": "none", "pad": 0.5}
    for line in [*head, _forest_figures(comparison)]:
        axes.text(
            0,
            top - _LINE_PT / 2,
            line,
            transform=axes.get_yaxis_transform(),
            va="center",
            weight="bold" if line in head else "normal",
            bbox=box,
        )
        top -= _LINE_PT
    if comparison["ratio"] is not None:
        _forest_interval(axes, top - 6, comparison, numbers[comparison["arm"]])


def _forest_interval(axes: Any, y: float, comparison: Comparison, number: int) -> None:
    colour = arm_colour(number)
    pairs = [_percent(ratio) for ratio in comparison["pair_ratios"]]
    axes.plot(pairs, [y - 8] * len(pairs), "|", color=MUTED, markersize=5)
    ends = [_percent(comparison["low"]), _percent(comparison["high"])]
    axes.plot(ends, [y] * 2, color=colour, linewidth=2, solid_capstyle="butt")
    middle = [_percent(comparison["ratio"])]
    marker = MARKERS[number % len(MARKERS)]
    axes.plot(middle, [y], marker, color=colour, markersize=7)


def _percent(ratio: Any) -> float:
    return (float(ratio) - 1) * 100


def _forest_limits(comparisons: Iterable[Comparison]) -> Tuple[float, float]:
    seen = [0.0]
    for comparison in comparisons:
        if comparison["ratio"] is not None:
            seen += map(_percent, comparison["pair_ratios"])
            seen += [_percent(comparison["low"]), _percent(comparison["high"])]
    room = 0.06 * (max(seen) - min(seen)) or 1.0
    return min(seen) - room, max(seen) + room


def _legend_columns(names: Sequence[str]) -> int:
    widest = max((len(name) for name in names), default=0) + _KEY_COLUMNS
    return max(1, min(len(names), _LABEL_COLUMNS // widest))


def _legend_pt(names: Sequence[str]) -> float:
    return _LINE_PT * -(-len(names) // _legend_columns(names))


def _legend(figure: Any, names: Sequence[str]) -> None:
    if names:
        columns = _legend_columns(names)
        figure.legend(loc="outside upper left", ncols=columns, frameon=False)


def latency_plot(
    name: str, where: str, arms: Sequence[Arm], numbers: ArmNumbers
) -> str:
    """Return the latency that each share of requests did not exceed, arm by arm."""
    curves = [(arm, latency_curve(arm["latency_histogram"] or "")) for arm in arms]
    curves = [(arm, curve) for arm, curve in curves if curve]
    names = [arm["arm"] for arm, _curve in curves]

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        for arm, curve in curves:
            _latency_curve(axes, arm, curve, numbers[arm["arm"]])
        _latency_axes(axes, curves)
        _legend(figure, names)

    said = " ".join(_latency_words(arm) for arm, _curve in curves)
    title = "Latency, {0}".format(where)
    return draw(name, title, said, _CURVES_PT + _legend_pt(names), fill)


def _latency_words(arm: Arm) -> str:
    shares = ", ".join(
        "{0} within {1} ms".format(
            head, report_words.figure(arm["latency_{0}_ms".format(key)])
        )
        for key, head in report_words.LATENCY_HEADS.items()
        if key != "max"
    )
    return "{0}: {1}.".format(arm["arm"], shares)


def _latency_curve(
    axes: Any, arm: Arm, curve: Sequence[Tuple[float, float]], number: int
) -> None:
    """Draw a curve; the slowest request, beyond every share, ends it."""
    last = 1 - 1 / max(arm["requests"], 2)
    xs = [1 / (1 - min(share, last)) for share, _ms in curve]
    axes.plot(
        [1.0, *xs],
        [curve[0][1], *(ms for _share, ms in curve)],
        color=arm_colour(number),
        linestyle=_LINES[number % len(_LINES)],
        linewidth=1.6,
        marker=MARKERS[number % len(MARKERS)],
        markersize=5,
        markevery=_marked(xs),
        label=report_words.cut(arm["arm"], _LABEL_COLUMNS),
    )


def _rarity(percent: float) -> float:
    """Return one in how many requests is slower; the axis is its logarithm."""
    return 100 / (100 - percent)


def _marked(xs: Sequence[float]) -> List[int]:
    """Return where the curve passes the shares that the axis names."""
    wanted = [_rarity(percent) for percent in _PERCENTS]
    found = [
        next((place for place, x in enumerate(xs) if x >= wish), None)
        for wish in wanted
    ]
    # One point precedes them.
    return sorted({place + 1 for place in found if place is not None})


def _latency_axes(axes: Any, curves: Sequence[Tuple[Arm, Any]]) -> None:
    highest = max((arm["requests"] for arm, _curve in curves), default=1000)
    axes.set_xscale("log")
    axes.set_xlim(1, max(highest, 20) * 1.15)
    shown = [percent for percent in _PERCENTS if _rarity(percent) <= highest]
    axes.set_xticks(list(map(_rarity, shown)), ["{0:g}".format(p) for p in shown])
    axes.set_xticks([], minor=True)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("% of requests that took no longer")
    axes.set_yscale("log")
    # The fastest few answers would take half of the axis.
    shown_ms = [ms for _a, curve in curves for share, ms in curve if share >= _LEAST]
    low, high = max(min(shown_ms, default=1.0), _LEAST_MS), max(shown_ms, default=10.0)
    axes.set_ylim(low / 1.2, high * 1.2)
    ticks = _ticks(low, high)
    axes.set_yticks(ticks, ["{0:g} ms".format(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.grid()


def _ticks(low: float, high: float) -> List[float]:
    """Return 1, 2, 5, 10 ... between two values, or each power of ten of many."""
    first, last = floor(log10(low)), floor(log10(high)) + 1
    steps = (1, 2, 5) if high <= low * _MANY else (1,)
    ticks = [float(step * 10**power) for power in range(first, last) for step in steps]
    return [tick for tick in ticks if low / 1.2 <= tick <= high * 1.2]


def order_strip(name: str, where: str, runs: Sequence[Run], numbers: ArmNumbers) -> str:
    """Return the rate of each run in the order measured; pairs are joined."""
    measured = sorted(
        (run for run in runs if run["requests_per_s"] is not None),
        key=lambda run: run["position"],
    )
    names = list(dict.fromkeys(run["arm"] for run in measured))
    if not all(run["valid"] for run in measured):
        names.append(_INVALID)

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        _join_pairs(axes, measured)
        _mark_arms(axes, measured, numbers)
        _mark_invalid(axes, measured)
        axes.locator_params(axis="x", nbins=8, integer=True)
        axes.set_xlim(0.4, len(measured) + 0.6)
        axes.set_xlabel("runs in the order measured")
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter("{x:g}/s")
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        _legend(figure, names)

    said = "; ".join(
        "{0} {1}".format(run["arm"], report_words.rate(run["requests_per_s"]))
        for run in measured
    )
    title = "Requests per second in the order measured, {0}".format(where)
    return draw(name, title, said, _STRIP_PT + _legend_pt(names), fill)


def _join_pairs(axes: Any, measured: Sequence[Run]) -> None:
    by_round: Dict[int, List[Tuple[int, float]]] = {}
    for at, run in enumerate(measured, 1):
        by_round.setdefault(run["round"], []).append((at, run["requests_per_s"]))
    for places in by_round.values():
        axes.plot(*zip(*places), color=MUTED, linewidth=0.8)


def _mark_arms(axes: Any, measured: Sequence[Run], numbers: ArmNumbers) -> None:
    for arm in dict.fromkeys(run["arm"] for run in measured):
        number = numbers[arm]
        places = [at for at, run in enumerate(measured, 1) if run["arm"] == arm]
        axes.plot(
            places,
            [measured[at - 1]["requests_per_s"] for at in places],
            MARKERS[number % len(MARKERS)],
            color=arm_colour(number),
            markersize=6,
            label=report_words.cut(arm, _LABEL_COLUMNS),
        )


def _mark_invalid(axes: Any, measured: Sequence[Run]) -> None:
    places = [
        (at, run["requests_per_s"])
        for at, run in enumerate(measured, 1)
        if not run["valid"]
    ]
    if places:
        axes.plot(
            *zip(*places),
            "x",
            color=FG,
            markersize=9,
            markeredgewidth=1.4,
            label=_INVALID,
        )


class _Bar(NamedTuple):
    """What one witness says of one arm's connections on one hop."""

    hop: str
    arm: str
    witness: str
    value: Optional[float]
    low: Optional[float]
    high: Optional[float]


def reuse_bars(name: str, where: str, arms: Sequence[Arm], numbers: ArmNumbers) -> str:
    """Return connections opened per request by hop, arm and witness."""
    bars = list(_bars(arms))
    places = _bar_places([count.hop for count in bars])

    def fill(figure: Any) -> None:
        axes = figure.subplots()
        for place, count in zip(places, bars):
            _draw_bar(axes, place, count, numbers[count.arm])
        _bar_axes(axes, places, bars)

    told = "; ".join(
        "{0}, {1}, by {2}: {3}".format(
            report_words.HOP_NAMES[count.hop],
            count.arm,
            count.witness,
            report_words.figure(count.value),
        )
        for count in bars
    )
    height = _BAR_PT * (len(bars) + 1.5 * len({count.hop for count in bars})) + _AXIS_PT
    title = "Connections opened per request, {0}".format(where)
    return draw(name, title, told, height, fill)


def _bar_axes(axes: Any, places: Sequence[float], bars: Sequence[_Bar]) -> None:
    for hop in dict.fromkeys(count.hop for count in bars):
        head = next(at for at, count in zip(places, bars) if count.hop == hop) + 1
        axes.text(0, head, report_words.HOP_NAMES[hop], va="center", weight="bold")
    labels = [
        "{0}, by {1}".format(report_words.cut(count.arm, _WIDEST_NAME), count.witness)
        for count in bars
    ]
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(min(places, default=0) - 0.7, 1.7)
    highest = max((count.high or count.value or 0 for count in bars), default=0)
    axes.set_xlim(0, 1.3 * highest or 1)
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("connections per request")
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _bars(arms: Sequence[Arm]) -> Iterator[_Bar]:
    for hop in HOPS:
        for arm in arms:
            said = arm["connections_per_request"][hop]
            if said:
                yield _Bar(hop, arm["arm"], "nginx", said["nginx"], None, None)
                bounds = said["kernel_low"], said["kernel_high"]
                yield _Bar(hop, arm["arm"], "kernel", said["kernel"], *bounds)


def _bar_places(hops: Sequence[str]) -> List[float]:
    """Return each bar's place on the axis, with room for a head above each hop."""
    places, at = [], 0.0
    for number, hop in enumerate(hops):
        if number:
            at -= 1.0 if hops[number - 1] == hop else 2.5
        places.append(at)
    return places


def _draw_bar(axes: Any, place: float, count: _Bar, number: int) -> None:
    """Draw a bar, full for nginx and empty for the kernel, with its bounds."""
    colour = arm_colour(number)
    axes.barh(
        place,
        count.value or 0,
        height=0.62,
        facecolor=colour if count.witness == "nginx" else "none",
        edgecolor=colour,
        linewidth=1.2,
    )
    end = count.value or 0
    if count.low is not None and count.high is not None and count.low < count.high:
        axes.plot([count.low, count.high], [place] * 2, color=FG, linewidth=0.9)
        end = max(end, count.high)
    axes.annotate(
        report_words.figure(count.value),
        (end, place),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )
