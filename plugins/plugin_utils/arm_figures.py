# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the runs of one arm say together, on one host or on several."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.histograms import (
    merge_histograms,
    percentiles_ms,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_runs import (
    HOPS,
    TOLD,
    Run,
)

CPU_CONSUMERS = ("nginx", "app", "generator")
ERROR_KINDS = ("connect", "read", "write", "timeout", "status")
_US_PER_S = 1e6

# By the names of the schema.
Arm = Dict[str, Any]


def host_arm(case: str, arm: str, runs: Sequence[Run]) -> Arm:
    """Return the figures of an arm's runs on one host, in the order measured.

    Runs that are not valid are among them: the comparison says so.
    """
    ordered = sorted(runs, key=lambda run: run["position"])
    return {
        "case": case,
        "arm": arm,
        "runs": len(ordered),
        "valid_runs": sum(run["valid"] for run in ordered),
        "requests": _requests(ordered),
        "requests_per_s": _spread(
            [r["requests_per_s"] for r in ordered if r["requests_per_s"] is not None]
        ),
        **_latencies(ordered),
        "cpu_us_per_request": {
            consumer: _cpu_us_per_request(ordered, consumer)
            for consumer in CPU_CONSUMERS
        },
        "errors": {
            kind: sum((run["errors"] or {}).get(kind, 0) for run in ordered)
            for kind in ERROR_KINDS
        },
        "connections_per_request": {hop: _reuse(ordered, hop) for hop in HOPS},
    }


def fleet_arm(case: str, arm: str, runs: Sequence[Run]) -> Arm:
    """Return the latencies of an arm over all hosts; rates of hosts do not mix."""
    return {
        "case": case,
        "arm": arm,
        "hosts": len({run["host"] for run in runs}),
        "runs": len(runs),
        "requests": _requests(runs),
        **_latencies(runs),
    }


def _requests(runs: Sequence[Run]) -> int:
    return sum(run["requests"] or 0 for run in runs)


def _spread(rates: List[float]) -> Dict[str, Any]:
    return {
        "runs": rates,
        "mean": round(fmean(rates), 2) if rates else None,
        "median": round(median(rates), 2) if rates else None,
        "min": min(rates, default=None),
        "max": max(rates, default=None),
    }


def _latencies(runs: Sequence[Run]) -> Dict[str, Any]:
    """Return the percentiles of all requests, and the histogram they are from.

    The histogram's buckets end up to 1 % above a value, the highest latency is
    known exactly: no percentile may exceed it.
    """
    merged = merge_histograms(run["latency_histogram"] or "" for run in runs)
    highest = _highest(run["latency_max_ms"] for run in runs)
    found = {
        "latency_{0}_ms".format(name): value
        if value is None or highest is None
        else min(value, highest)
        for name, value in percentiles_ms(merged).items()
    }
    return {**found, "latency_max_ms": highest, "latency_histogram": merged or None}


def _highest(values: Iterable[Optional[float]]) -> Optional[float]:
    return max((value for value in values if value is not None), default=None)


def _cpu_us_per_request(runs: Sequence[Run], consumer: str) -> Optional[float]:
    """Return CPU time (in µs) by the requests of the runs that know it."""
    field = "cpu_{0}_s".format(consumer)
    known = [run for run in runs if run[field] is not None]
    requests = _requests(known)
    if not requests:
        return None
    return round(float(sum(run[field] for run in known)) / requests * _US_PER_S, 1)


def _reuse(runs: Sequence[Run], hop: str) -> Optional[Dict[str, Any]]:
    """Return connections per request of each witness over all requests."""
    known = [run for run in runs if run["reuse"][hop]]
    if not known:
        return None
    agreed = {run["reuse"][hop]["agree"] for run in known}
    return {
        **{name: _share(known, hop, name) for name in TOLD},
        # One witness alone agrees with nobody.
        "agree": False if False in agreed else None if None in agreed else True,
    }


def _share(runs: Sequence[Run], hop: str, name: str) -> Optional[float]:
    def said(run: Mapping[str, Any]) -> Any:
        return run["reuse"][hop][name]

    known = [run for run in runs if said(run) is not None and run["requests"]]
    requests = _requests(known)
    if not requests:
        return None
    opened = float(sum(said(run) * run["requests"] for run in known))
    return round(opened / requests, 6)
