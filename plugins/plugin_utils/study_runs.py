# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases and runs of a benchmark study, checked and made alike.

``docs/benchmark.schema.json`` tells the meaning and unit of each field of a run.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Mapping, Optional, Sequence, TypedDict

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

HOPS = ("client", "upstream")
# Each tells in a way of its own how many connections were opened.
WITNESSES = ("nginx", "kernel")
TOLD = (*WITNESSES, "kernel_low", "kernel_high")
LATENCIES = ("p50", "p75", "p90", "p99", "p99_9", "max")
_LEAST_ARMS = 2
_PLACE = ("case", "arm", "round", "position")
_MEASURED = (
    "requests_per_s",
    "requests",
    "duration_s",
    "cycle_time_ms",
    *("latency_{0}_ms".format(name) for name in LATENCIES),
    "latency_histogram",
    "latency_coordinated_omission",
    "errors",
    "statuses",
    "bytes_read",
    "cpu_nginx_s",
    "cpu_app_s",
    "cpu_generator_s",
    "cpu_steal_s",
    "load_1m",
    "warmup_rates_per_s",
    "warmup_steady",
    "command",
    "wrk_version",
)

# One run; what was not measured is null.
Run = Dict[str, Any]


class Case(TypedDict):
    """What is compared: each of ``arms`` with ``base``, which is one of them."""

    name: str
    arms: List[str]
    base: str
    question: str


def check_cases(cases: Sequence[Case], confidence: float) -> None:
    """Raise KeepaliveError for what gives nothing to compare."""
    if not 0 < confidence < 1:
        raise KeepaliveError(
            "confidence: {0} is not between 0 and 1; 0.95 is usual".format(confidence)
        )
    if not cases:
        raise KeepaliveError("cases: there is none, so there is nothing to compare")
    names = Counter(case["name"] for case in cases)
    for case in cases:
        _check_case(case, names[case["name"]])


def _check_case(case: Case, times: int) -> None:
    where = "cases: {0!r}".format(case["name"])
    arms = case["arms"]
    if times > 1:
        raise KeepaliveError("{0} is named twice".format(where))
    if len(set(arms)) != len(arms) or len(arms) < _LEAST_ARMS:
        raise KeepaliveError(
            "{0}: arms must be two or more different names, not {1}".format(where, arms)
        )
    if case["base"] not in arms:
        raise KeepaliveError(
            "{0}: base {1!r} is none of the arms {2}".format(where, case["base"], arms)
        )


def normal_runs(
    hosts: Mapping[str, Mapping[str, Any]], cases: Sequence[Case]
) -> List[Run]:
    """Return the runs of all hosts, each with its host and every field.

    Raises KeepaliveError for a run that belongs to no case or arm, or is there
    twice.
    """
    arms = {(case["name"], arm) for case in cases for arm in case["arms"]}
    runs: List[Run] = []
    seen = set()
    for host, measured in hosts.items():
        for given in _runs(host, measured):
            run = _normal_run(host, given)
            if (run["case"], run["arm"]) not in arms:
                raise KeepaliveError(
                    "hosts: a run on {host} is of the case {case!r} and the arm "
                    "{arm!r}, which cases does not name".format(**run)
                )
            place = (host, run["case"], run["arm"], run["round"])
            if place in seen:
                raise KeepaliveError(
                    "hosts: {0} has two runs of {1!r}, arm {2!r}, in round {3}".format(
                        *place
                    )
                )
            seen.add(place)
            runs.append(run)
    return runs


def _runs(host: str, measured: Any) -> List[Mapping[str, Any]]:
    runs = measured.get("runs") if isinstance(measured, Mapping) else None
    if not isinstance(runs, list) or not all(isinstance(r, Mapping) for r in runs):
        raise KeepaliveError(
            "hosts: {0} must be a dictionary with conditions and a list of runs".format(
                host
            )
        )
    return runs


def _normal_run(host: str, given: Mapping[str, Any]) -> Run:
    missing = [name for name in _PLACE if given.get(name) is None]
    if missing:
        raise KeepaliveError(
            "hosts: a run on {0} lacks {1}".format(host, ", ".join(missing))
        )
    valid = given.get("valid") is True
    reasons = [str(reason) for reason in given.get("invalid_reasons") or []]
    if not valid and not reasons:
        reasons = ["the run was not measured"]
    return {
        "host": host,
        **{name: given[name] for name in _PLACE},
        "valid": valid,
        "invalid_reasons": [] if valid else reasons,
        **{name: given.get(name) for name in _MEASURED},
        "reuse": {hop: _hop(given, hop) for hop in HOPS},
    }


def _hop(given: Mapping[str, Any], hop: str) -> Optional[Dict[str, Any]]:
    """Return what the witnesses of one hop say; null where none was."""
    said = (given.get("reuse") or {}).get(hop)
    if not said:
        return None
    return {name: said.get(name) for name in (*TOLD, "agree")}
