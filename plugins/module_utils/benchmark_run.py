# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One benchmark of one URL: warm up until the rate is steady, then measure."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils import cpu_time
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.latencies import (
    encode_hdr,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.witness import (
    Witness,
    Witnesses,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.wrk import (
    WrkPlan,
    WrkRun,
    doubts,
)

# The rate is steady when this many slices in a row agree to within this share.
STEADY_SLICES = 3
STEADY_SHARE = 0.05
_SLICE_S = 1
_PERCENTILES = {"p50": 50, "p75": 75, "p90": 90, "p99": 99, "p99_9": 99.9, "max": 100}
CO_TREATMENT = "corrected by wrk afterwards, with the mean interval of a connection"

Measure = Callable[[WrkPlan], WrkRun]
# Returns the length that all answers have, if they are alike.
Ask = Callable[[WrkPlan], Optional[int]]


@dataclass(frozen=True)
class WarmUp:
    """Rates of the slices (requests per second), and whether they became steady.

    ``steady`` is None where there was no warm-up.
    """

    rates_per_s: List[float]
    steady: Optional[bool]

    def as_result(self) -> Dict[str, Any]:
        """Return what the modules tell of it, by the names that they document."""
        return {
            "warmup_steady": self.steady,
            "warmup_rates_per_s": [round(rate, 1) for rate in self.rates_per_s],
        }


def is_steady(rates_per_s: Sequence[float]) -> bool:
    """Tell whether the last slices agree about the rate."""
    last = rates_per_s[-STEADY_SLICES:]
    middle = median(last) if last else 0.0
    return (
        len(last) == STEADY_SLICES
        and middle > 0
        and max(abs(rate - middle) for rate in last) <= STEADY_SHARE * middle
    )


def warm_up(plan: WrkPlan, measure: Measure, max_s: int) -> WarmUp:
    """Send load in slices of a second until its rate is steady, or ``max_s``."""
    rates: List[float] = []
    while len(rates) < max_s // _SLICE_S and not is_steady(rates):
        rates.append(measure(replace(plan, duration_s=_SLICE_S)).requests_per_s)
    return WarmUp(rates, is_steady(rates) if max_s else None)


class CpuMeter:
    """CPU time of nginx, the application and the generator between two moments."""

    def __init__(self, proc: Path, app_pid: int) -> None:
        self._proc = proc
        self._app_pid = app_pid
        self._begun = self._sample()

    def _sample(self) -> Dict[str, Optional[float]]:
        processes = cpu_time.read_processes(self._proc)
        nginx = cpu_time.named(processes, "nginx")
        app = cpu_time.family(processes, self._app_pid)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "cpu_nginx_s": cpu_time.cpu_s(processes, nginx) if nginx else None,
            "cpu_app_s": cpu_time.cpu_s(processes, app) if app else None,
            "cpu_generator_s": children.ru_utime + children.ru_stime,
            "cpu_steal_s": cpu_time.steal_s(self._proc),
        }

    def read(self) -> Dict[str, Optional[float]]:
        """Return the seconds since the meter was made; None for what is not here."""
        spent: Dict[str, Optional[float]] = {}
        for name, now in self._sample().items():
            begun = self._begun[name]
            known = now is not None and begun is not None
            spent[name] = round((now or 0) - (begun or 0), 3) if known else None
        return spent


@dataclass(frozen=True)
class Load:
    """What to send, and who tells of it. ``app_pid`` is the application's process."""

    plan: WrkPlan
    app_pid: int = 0
    witnesses: Witnesses = field(default_factory=Witnesses)


def observe(load: Load, measure: Measure, proc: Path) -> Dict[str, Any]:
    """Measure once; return the figures, and whether they are those of the question.

    Raises KeepaliveError if nothing could be measured.
    """
    witness = Witness(load.witnesses, load.plan.duration_s, proc)
    with witness.listening():
        meter = CpuMeter(proc, load.app_pid)
        run = measure(load.plan)
        cpu = meter.read()
    told, reasons = witness.testify(load.plan, run)
    reasons = doubts(load.plan, run) + reasons
    return {
        "valid": not reasons,
        "invalid_reasons": reasons,
        "load_1m": cpu_time.load_1m(proc),
        "reuse": told,
        **cpu,
        **figures(load.plan, run),
    }


def benchmark(
    load: Load, measure: Measure, ask: Ask, *, warmup_max_s: int, proc: Path
) -> Dict[str, Any]:
    """Ask for one answer, warm up and measure; return the module's result.

    A run that could not be made at all is a result too, with ``valid`` false.
    """
    try:
        load = replace(load, plan=replace(load.plan, answer_bytes=ask(load.plan)))
        warm = warm_up(load.plan, measure, warmup_max_s)
        result = observe(load, measure, proc)
    except KeepaliveError as error:
        return {"valid": False, "invalid_reasons": [str(error)]}
    result.update(warm.as_result())
    if warm.steady is False:
        result["valid"] = False
        result["invalid_reasons"].append(
            "the rate was not steady after {0} s of warm-up; give it longer "
            "(warmup_max_s) or a quieter host".format(warmup_max_s)
        )
    return result


class Arm:
    """One of several loads that take turns."""

    def __init__(self, load: Load, measure: Measure, proc: Path) -> None:
        self._load = load
        self._measure = measure
        self._proc = proc
        self._said = WarmUp([], None).as_result()
        self._failure = ""

    def prepare(self, ask: Ask, warmup_max_s: int) -> None:
        """Ask for one answer and warm up; what goes wrong is said of every run."""
        plan = self._load.plan
        try:
            plan = replace(plan, answer_bytes=ask(plan))
            warm = warm_up(plan, self._measure, warmup_max_s)
        except KeepaliveError as error:
            self._failure = str(error)
            return
        self._load = replace(self._load, plan=plan)
        self._said = warm.as_result()

    def run(self) -> Dict[str, Any]:
        """Measure once; return the figures, or why there are none."""
        if self._failure:
            return self._nothing(self._failure)
        try:
            return {**observe(self._load, self._measure, self._proc), **self._said}
        except KeepaliveError as error:
            return self._nothing(str(error))

    def _nothing(self, why: str) -> Dict[str, Any]:
        return {**self._said, "valid": False, "invalid_reasons": [why], "reuse": None}


def take_turns(
    arms: Mapping[str, Arm], *, rounds: int, first_round: int
) -> List[Dict[str, Any]]:
    """Measure each arm once a round, without a pause; return the runs in order.

    Every other round goes backwards, so that a drift favours no arm. A host's speed
    changes within seconds, so what is to be compared must be a second apart.

    One run before the first is thrown away: what started this, on the controller or
    here, may still be busy, and would always hold back the arm that begins.
    """
    names = list(arms)
    arms[names[0]].run()
    return [
        {"arm": name, "round": number, **arms[name].run()}
        for number in range(first_round, first_round + rounds)
        for name in (names if number % 2 == 0 else names[::-1])
    ]


def figures(plan: WrkPlan, run: WrkRun) -> Dict[str, Any]:
    """Return the numbers of a run by the names that the module documents."""
    rate = run.requests_per_s
    latencies = {
        "latency_{0}_ms".format(name): run.latency_ms(percent)
        for name, percent in _PERCENTILES.items()
    }
    return {
        "duration_s": round(run.duration_us / 1e6, 3),
        "requests": run.requests,
        "requests_per_s": round(rate, 2),
        "cycle_time_ms": round(plan.connections / rate * 1000, 3) if rate else None,
        **latencies,
        "latency_coordinated_omission": CO_TREATMENT,
        "latency_histogram": encode_hdr(run.latency_counts),
        "bytes_read": run.bytes_read,
        "errors": dict(run.errors),
        "statuses": {str(status): run.statuses[status] for status in run.statuses},
    }
