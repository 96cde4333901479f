# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a study into the list of runs that answers it."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.paired import (
    LEAST_PAIRS,
)

# What an arm asks of the generator; the rest of it is for the module benchmark_arms.
_ASKED = ("keepalive", "expect_upstream", "path")
_LEAST_ARMS = 2
_REQUEST = {
    "method": "GET",
    "body": "",
    "headers": {},
    "expected_status": 200,
}
# Rounds that one task makes: few enough to show progress, many enough that the time
# between tasks does not count.
BLOCK_ROUNDS = 5
# A task of Ansible, and what is done beside the load of a run.
_TASK_S = 2.5
_RUN_S = 0.1
# A warm-up needs three seconds at least, and a second is measured after it.
_WARM_UP_S = 5

Study = Mapping[str, Any]


def plan(
    study: Study,
    requests: Sequence[Mapping[str, Any]],
    *,
    connections: Sequence[int],
    pairs: int,
    duration_s: int,
) -> Dict[str, Any]:
    """Return arms to serve, cases to compare, warm-ups, and blocks of rounds in order.

    A study has ``title``, ``question``, ``arms`` and ``comparisons`` (lists of arms,
    of which the first is the base). Each is made for every request and number of
    connections. Raises KeepaliveError for what cannot be compared.
    """
    _refuse(study, requests, connections, pairs)
    arms = {arm["name"]: arm for arm in study["arms"]}
    cases = list(_cases(study, arms, requests, connections))
    blocks = list(_blocks(cases, arms, pairs))
    warm_ups = _warm_ups(cases, arms)
    measured = sum(len(case["arms"]) for case in cases) * pairs
    return {
        "arms": [_served(arm) for arm in arms.values()],
        "cases": [_told(case) for case in cases],
        "warm_ups": warm_ups,
        "blocks": blocks,
        "runs": measured,
        "seconds": round(
            len(warm_ups) * (_WARM_UP_S + _TASK_S)
            + len(blocks) * _TASK_S
            + measured * (duration_s + _RUN_S)
        ),
    }


def _blocks(
    cases: Sequence[Mapping[str, Any]], arms: Mapping[str, Any], pairs: int
) -> Iterator[Dict[str, Any]]:
    for case in cases:
        for first in range(0, pairs, BLOCK_ROUNDS):
            yield {
                "case": case["name"],
                "first_round": first,
                "rounds": min(BLOCK_ROUNDS, pairs - first),
                "loads": [_load(case, arms[name]) for name in case["arms"]],
            }


def _warm_ups(
    cases: Sequence[Mapping[str, Any]], arms: Mapping[str, Any]
) -> List[Dict[str, Any]]:
    """Return each load once: cases that differ in name only are warm with one."""
    found: List[Dict[str, Any]] = []
    for case in cases:
        loads = (_load(case, arms[name]) for name in case["arms"])
        found.extend(load for load in loads if load not in found)
    return found


def _refuse(
    study: Study,
    requests: Sequence[Mapping[str, Any]],
    connections: Sequence[int],
    pairs: int,
) -> None:
    if pairs < LEAST_PAIRS:
        raise KeepaliveError(
            "keepalive_benchmark_pairs is {0}; fewer than {1} pairs give no interval "
            "worth the name".format(pairs, LEAST_PAIRS)
        )
    if not connections or min(connections) < 1:
        raise KeepaliveError(
            "keepalive_benchmark_connections is {0}; give numbers of at least 1".format(
                list(connections)
            )
        )
    _refuse_arms(study)
    _refuse_requests(requests)


def _refuse_arms(study: Study) -> None:
    names = [arm.get("name") for arm in study["arms"]]
    if len(names) < _LEAST_ARMS or len(set(names)) < len(names) or None in names:
        raise KeepaliveError(
            "keepalive_benchmark_arms: give at least two arms, each with a name of its "
            "own"
        )
    for arm in study["arms"]:
        path = arm.get("path", "/")
        if not str(path).startswith("/"):
            raise KeepaliveError(
                "keepalive_benchmark_arms: path {0!r} of {1} does not begin with "
                "'/'".format(path, arm["name"])
            )


def _refuse_requests(requests: Sequence[Mapping[str, Any]]) -> None:
    names = [request.get("name") for request in requests]
    if not names or len(set(names)) < len(names) or None in names:
        raise KeepaliveError(
            "keepalive_benchmark_requests: give at least one request, each with a name "
            "of its own"
        )
    for request in requests:
        if not str(request.get("path", "")).startswith("/"):
            raise KeepaliveError(
                "keepalive_benchmark_requests: {0!r} has no path that begins with "
                "'/'".format(request["name"])
            )


def _cases(
    study: Study,
    arms: Mapping[str, Any],
    requests: Sequence[Mapping[str, Any]],
    connections: Sequence[int],
) -> Iterator[Dict[str, Any]]:
    comparisons = study.get("comparisons") or [list(arms)]
    for request in requests:
        for number in connections:
            for names in comparisons:
                title = "{0}, {1} connections".format(request["name"], number)
                if len(comparisons) > 1:
                    title += ", {0} against {1}".format(", ".join(names[1:]), names[0])
                yield {
                    "name": title,
                    "question": study["question"],
                    "arms": list(names),
                    "base": names[0],
                    "connections": number,
                    "request": {**_REQUEST, **request},
                }


def _told(case: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: case[name] for name in ("name", "question", "arms", "base")}


def _load(case: Mapping[str, Any], arm: Mapping[str, Any]) -> Dict[str, Any]:
    asked = {name: arm[name] for name in _ASKED if name in arm}
    return {
        "name": arm["name"],
        "connections": case["connections"],
        "keepalive": True,
        "expect_upstream": "any",
        **{name: case["request"][name] for name in ("path", *_REQUEST)},
        **asked,
    }


def _served(arm: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: arm[name] for name in arm if name not in _ASKED}


def options(
    load: Mapping[str, Any],
    served: Sequence[Mapping[str, Any]],
    *,
    host: str,
    common: Mapping[str, Any],
    local: bool,
) -> Dict[str, Any]:
    """Return the arm of benchmark_rounds that sends a plan's load.

    ``served`` is what benchmark_arms returned, ``host`` the Host header. A generator
    that is not ``local`` can ask neither the kernel nor the unit.
    """
    arm = next(each for each in served if each["name"] == load["name"])
    here = {name: arm[name] for name in ("app_unit", "app_socket", "nginx_status_url")}
    return {
        **{name: value for name, value in load.items() if name != "path"},
        "url": arm["url"] + load["path"],
        "headers": {"Host": host, **load["headers"]},
        **(here if local else {}),
        **common,
    }


def collect(
    results: Sequence[Mapping[str, Any]],
    warm_ups: Sequence[Mapping[str, Any]],
    *,
    local: bool,
) -> List[Dict[str, Any]]:
    """Return the runs as the report takes them, from the results of a loop of blocks.

    For a generator elsewhere, which cannot hear the kernel, what the warm-ups on the
    service's own host say of reuse is said of the runs.
    """
    proven = [(each["__load"], each["runs"][0]) for each in warm_ups]
    runs: List[Dict[str, Any]] = []
    for result in results:
        loads = {load["name"]: load for load in result["__block"]["loads"]}
        for run in result["runs"]:
            told = {**run, "case": result["__block"]["case"]}
            told["position"] = len(runs)
            told["wrk_version"] = result["wrk_version"]
            if not local:
                load = loads[run["arm"]]
                _prove(told, next(warm for asked, warm in proven if asked == load))
            runs.append(told)
    return runs


def _prove(run: Dict[str, Any], proof: Mapping[str, Any]) -> None:
    run["invalid_reasons"] = [*run["invalid_reasons"], *proof["invalid_reasons"]]
    run["valid"] = not run["invalid_reasons"]
    run["reuse"] = proof.get("reuse")
    # Of the generator's own host, and not of the service's.
    run.update(cpu_nginx_s=None, cpu_steal_s=None, load_1m=None)
