# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A benchmark's result in words: the same in the terminal, Markdown and HTML."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.paired import (
    RESOLUTION,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_result import (
    Comparison,
    Host,
    Result,
)

ABSENT = "\N{EN DASH}"
LATENCY_HEADS = {
    "p50": "50 %",
    "p75": "75 %",
    "p90": "90 %",
    "p99": "99 %",
    "p99_9": "99.9 %",
    "max": "highest",
}
# Best first; also the order in which a summary counts them.
VERDICTS = ("better", "worse", "inconclusive", "invalid")
HOP_NAMES = {"client": "client to nginx", "upstream": "nginx to app"}
_DIGITS = 3
_WHOLE_FROM = 10_000
# From so many comparisons on, some differ by chance.
_MANY = 5
_ONLY_RATIOS = (
    "Read the effect, not the rates: it compares runs made next to each other, while "
    "requests/s drift. Its interval is that of this session: on another day, or beside "
    "other work, the effect itself may lie outside it."
)
_RESOLUTION = (
    "Better or worse: the whole interval is more than {0:.0f} % from no difference. "
    "Inconclusive: it is not, which proves neither that the arms differ nor that they "
    "are equal.".format(RESOLUTION * 100)
)
_UNITS = {"_s": "s", "_ms": "ms", "_percent": "%", "_bytes": "bytes"}


def percent_change(ratio: float) -> str:
    """Return a ratio as a change, 1.112 as ``+11.2 %``."""
    change = round((ratio - 1) * 100, 1)
    return "{0:+.1f} %".format(change) if change else "0.0 %"


def typeset(value: Any) -> str:
    """Return text for print: a true minus, and units that stay with their number."""
    value = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", str(value))
    return re.sub(r"(?<=\d) (?=(%|ms|s|µs)(\W|$))", "\N{NO-BREAK SPACE}", value)


def figure(value: Optional[float]) -> str:
    """Return a number with about three digits, and no more than it has."""
    if value is None:
        return ABSENT
    size = abs(value)
    if size < 1:
        return "{0:.3g}".format(value)
    decimals = max(0, _DIGITS - len(str(int(size))))
    return "{0:.{1}f}".format(value, decimals)


def rate(value: Optional[float]) -> str:
    """Return requests per second, with a tenth below ten thousand."""
    if value is None:
        return ABSENT
    return "{0:.{1}f}".format(value, 1 if value < _WHOLE_FROM else 0)


def difference(comparison: Comparison) -> str:
    """Return the difference of the averages, in percent of the base's."""
    value = comparison["difference_percent"]
    return ABSENT if value is None else percent_change(1 + value / 100)


def interval(comparison: Comparison) -> str:
    """Return the interval's ends, ``+9.8 % to +12.9 %``."""
    if comparison["low"] is None or comparison["high"] is None:
        return ABSENT
    return "{0} to {1}".format(
        percent_change(comparison["low"]), percent_change(comparison["high"])
    )


def effect_with_interval(comparison: Comparison) -> str:
    """Return the effect and its interval, ``+11.2 % (+9.8 to +12.9)``."""
    if comparison["ratio"] is None:
        return ABSENT
    return "{0} ({1})".format(
        percent_change(comparison["ratio"]), interval(comparison).replace(" %", "")
    )


def confidence_words(comparison: Comparison) -> str:
    """Return the confidence, ``95 %``."""
    return "{0:g} %".format(round(comparison["confidence"] * 100, 6))


def verdict_sentences(result: Result) -> List[Tuple[str, str]]:
    """Return (verdict, sentence) for each question, to be read before all else.

    Several hosts share a sentence; its verdict is theirs, or ``mixed``.
    """
    sentences = []
    for case in result["cases"]:
        for arm in case["arms"]:
            if arm == case["base"]:
                continue
            found = {
                name: comparison
                for name, host in result["hosts"].items()
                for comparison in host["comparisons"]
                if (comparison["case"], comparison["arm"]) == (case["name"], arm)
            }
            if found:
                about = _about(result, arm, case["base"])
                sentences.append(_sentence(about, case["name"], found))
    return sentences


def _about(result: Result, arm: str, base: str) -> str:
    title = result["title"].rstrip(".:")
    return "{0}, {1} instead of {2}".format(title, arm, base)


def _sentence(
    about: str, case: str, found: Mapping[str, Comparison]
) -> Tuple[str, str]:
    if len(found) > 1:
        return _sentence_of_hosts(about, case, found)
    (comparison,) = found.values()
    if comparison["ratio"] is None:
        reasons = "; ".join(shortened(comparison["reasons"]))
        return "invalid", "{0}: invalid on {1}: {2}.".format(
            about, case, reasons.rstrip(".")
        )
    return comparison["verdict"], (
        "{0}: {1} requests/s on {2} ({3} interval {4}, {5} pairs): {6}.".format(
            about,
            percent_change(comparison["ratio"]),
            case,
            confidence_words(comparison),
            interval(comparison),
            comparison["pairs"],
            comparison["verdict"],
        )
    )


def _sentence_of_hosts(
    about: str, case: str, found: Mapping[str, Comparison]
) -> Tuple[str, str]:
    counted = Counter(comparison["verdict"] for comparison in found.values())
    verdicts = ", ".join(
        "{0} on {1}".format(verdict, counted[verdict])
        for verdict in VERDICTS
        if counted[verdict]
    )
    shared = next(iter(counted)) if len(counted) == 1 else "mixed"
    return shared, "{0}: {1} on {2}, {3} hosts: {4}.".format(
        about, _range_of_hosts(found), case, len(found), verdicts
    )


def _range_of_hosts(found: Mapping[str, Comparison]) -> str:
    """Return the lowest and highest effect, each with its host."""
    ratios = sorted(
        (comparison["ratio"], host)
        for host, comparison in found.items()
        if comparison["ratio"] is not None
    )
    if not ratios:
        return "no effect known"
    ends = ratios if len(ratios) == 1 else [ratios[0], ratios[-1]]
    return (
        " to ".join(
            "{0} ({1})".format(percent_change(ratio), host) for ratio, host in ends
        )
        + " requests/s"
    )


def shortened(reasons: Sequence[str], most: int = 3) -> List[str]:
    """Return the first reasons, and how many are left out."""
    left = len(reasons) - most
    return [*reasons[:most], *(["{0} more".format(left)] if left > 0 else [])]


def cut(name: str, most: int) -> str:
    """Return a name of at most so many characters."""
    return name if len(name) <= most else name[: most - 1] + "…"


def reasons(host: Host) -> List[str]:
    """Return why comparisons on a host are invalid, each with its case and arm."""
    return [
        "{0}, {1}: {2}".format(comparison["case"], comparison["arm"], reason)
        for comparison in host["comparisons"]
        for reason in comparison["reasons"]
    ]


def conditions(host: Host) -> List[Tuple[str, str]]:
    """Return a host's conditions for readers, ``duration_s: 10`` as duration, 10 s."""
    return [_condition(key, value) for key, value in host["conditions"].items()]


def _condition(key: str, value: Any) -> Tuple[str, str]:
    for suffix, unit in _UNITS.items():
        if key.endswith(suffix) and value is not None:
            key, value = key[: -len(suffix)], "{0} {1}".format(text(value), unit)
            break
    return " ".join(key.split("_")), text(value)


def text(value: Any) -> str:
    """Return a plain value for readers."""
    if isinstance(value, (list, tuple)):
        return ", ".join(text(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ABSENT if value is None else str(value)


def conditions_lines(result: Result) -> List[str]:
    """Return one line of conditions for all hosts that share them."""
    lines: Dict[str, List[str]] = {}
    for name, host in result["hosts"].items():
        said = ", ".join(" ".join(pair) for pair in conditions(host))
        lines.setdefault(said or "not recorded", []).append(name)
    return [
        "Conditions of {0}: {1}.".format(", ".join(names), said)
        for said, names in lines.items()
    ]


def cautions(result: Result) -> List[str]:
    """Return what must not be read into the figures."""
    hosts = list(result["hosts"])
    said = [_ONLY_RATIOS, _RESOLUTION]
    if len(hosts) == 1:
        said.append("Measured on one host, {0}; others may differ.".format(hosts[0]))
    elif hosts:
        said.append(
            "Each host is compared with itself only; latencies of all hosts are of all "
            "their requests together."
        )
    return (
        said
        + _chance_caution(result)
        + _generator_caution(result)
        + _witness_caution(result)
    )


def _chance_caution(result: Result) -> List[str]:
    """Tell how many verdicts chance alone would give among many."""
    comparisons = [
        each for host in result["hosts"].values() for each in host["comparisons"]
    ]
    if len(comparisons) < _MANY:
        return []
    confidence = comparisons[0]["confidence"]
    return [
        "{0} comparisons: by chance alone up to {1:.1f} of them would be called better "
        "or worse if no arm differed.".format(
            len(comparisons), len(comparisons) * (1 - confidence)
        ),
        "{0}.".format("; ".join(_counted(comparisons))),
    ]


def _counted(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Yield how often each arm got which verdict, ``slower: 38 worse``."""
    for arm in dict.fromkeys(each["arm"] for each in comparisons):
        found = Counter(each["verdict"] for each in comparisons if each["arm"] == arm)
        verdicts = ["{0} {1}".format(found[v], v) for v in VERDICTS if found[v]]
        yield "{0}: {1}".format(arm, ", ".join(verdicts))


def _generator_caution(result: Result) -> List[str]:
    """Tell of a generator that competes with what it measures, and how much."""
    spent = dict.fromkeys(("nginx", "app", "generator"), 0.0)
    for run in result["runs"]:
        for consumer in spent:
            spent[consumer] += run["cpu_{0}_s".format(consumer)] or 0.0
    # Of a generator elsewhere neither nginx nor the app is told.
    if not spent["generator"] or not (spent["nginx"] or spent["app"]):
        return []
    share = ""
    if spent["nginx"] and spent["app"]:
        percent = 100 * spent["generator"] / sum(spent.values())
        share = (
            " and took {0:.0f} % of the CPU time of generator, nginx and app".format(
                percent
            )
        )
    return [
        "The load generator runs on the same cores{0}; with a client elsewhere the "
        "figures would differ.".format(share)
    ]


def _witness_caution(result: Result) -> List[str]:
    """Tell of runs whose two witnesses counted different numbers of connections."""
    doubted = sum(
        any(said and said["agree"] is False for said in run["reuse"].values())
        for run in result["runs"]
    )
    if not doubted:
        return []
    return [
        "In {0} of {1} runs nginx and the kernel counted different numbers of new "
        "connections.".format(doubted, len(result["runs"]))
    ]
