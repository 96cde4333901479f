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
    run_order,
)

# What an arm asks of the generator; the rest of it is for the module benchmark_arms.
_ASKED = ("keepalive", "expect_upstream", "path", "connections")
_REQUEST = {
    "method": "GET",
    "body": "",
    "headers": {},
    "expected_status": 200,
}
# Between two runs: a task of Ansible, and what the module does beside the load.
OVERHEAD_S = 1.2
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
    """Return arms to serve, cases to compare, warm-ups and runs in their order.

    A study has ``title``, ``question``, ``arms`` and ``comparisons`` (lists of arms,
    of which the first is the base). Each is made for every request and number of
    connections. Raises KeepaliveError for what cannot be compared.
    """
    arms = {arm["name"]: arm for arm in study["arms"]}
    _refuse(study, arms, requests, connections, pairs)
    cases = list(_cases(study, arms, requests, connections))
    runs = [
        {**run, "round": number}
        for case in cases
        for number, order in enumerate(run_order(case["arms"], pairs))
        for run in (_run(case, arms[name]) for name in order)
    ]
    for position, run in enumerate(runs):
        run["position"] = position + 1
    warm_ups = [_run(case, arms[name]) for case in cases for name in case["arms"]]
    return {
        "arms": [_served(arm) for arm in arms.values()],
        "cases": [_told(case) for case in cases],
        "warm_ups": warm_ups,
        "runs": runs,
        "seconds": round(
            len(warm_ups) * (_WARM_UP_S + OVERHEAD_S)
            + len(runs) * (duration_s + OVERHEAD_S)
        ),
    }


def _refuse(
    study: Study,
    arms: Mapping[str, Any],
    requests: Sequence[Mapping[str, Any]],
    connections: Sequence[int],
    pairs: int,
) -> None:
    if pairs < LEAST_PAIRS:
        raise KeepaliveError(
            "keepalive_benchmark_pairs is {0}; fewer than {1} pairs give no interval "
            "worth the name".format(pairs, LEAST_PAIRS)
        )
    if len(arms) != len(study["arms"]) or len(arms) < 2:  # noqa: PLR2004
        raise KeepaliveError(
            "keepalive_benchmark_arms: give at least two arms, each with a name of its "
            "own"
        )
    if not requests or not connections or min(connections) < 1:
        raise KeepaliveError(
            "keepalive_benchmark_requests and keepalive_benchmark_connections must "
            "each have an entry, and connections be at least 1"
        )
    for request in requests:
        if not {"name", "path"} <= set(request):
            raise KeepaliveError(
                "keepalive_benchmark_requests: each needs a name and a path; {0!r} "
                "lacks one".format(dict(request))
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


def _run(case: Mapping[str, Any], arm: Mapping[str, Any]) -> Dict[str, Any]:
    asked = {name: arm[name] for name in _ASKED if name in arm}
    return {
        "case": case["name"],
        "arm": arm["name"],
        "connections": case["connections"],
        "keepalive": True,
        "expect_upstream": "any",
        **{name: case["request"][name] for name in ("path", *_REQUEST)},
        **asked,
    }


def _served(arm: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: arm[name] for name in arm if name not in _ASKED}


# What Ansible adds to a module's result.
_NOT_MEASURED = ("invocation", "ansible_loop_var", "changed", "failed")
_RUN = ("case", "arm", "round", "position")


def collect(
    results: Sequence[Mapping[str, Any]], proofs: Sequence[Mapping[str, Any]]
) -> List[Dict[str, Any]]:
    """Return the runs as the report takes them, from the results of a loop.

    ``proofs`` are runs of the same arms on the service's own host, for a generator
    that is elsewhere and cannot hear the kernel there: what they say of reuse is
    said of the runs.
    """
    proven = {(each["__run"]["case"], each["__run"]["arm"]): each for each in proofs}
    runs = []
    for each in results:
        run = {
            name: value
            for name, value in each.items()
            if name not in _NOT_MEASURED and not name.startswith("__")
        }
        run.update({name: each["__run"][name] for name in _RUN})
        proof = proven.get((run["case"], run["arm"]))
        if proof:
            reasons = list(proof["invalid_reasons"])
            # Said last; noise is for the interval to tell.
            said = reasons[:-1] if proof.get("warmup_steady") is False else reasons
            run["invalid_reasons"] = [*run["invalid_reasons"], *said]
            run["valid"] = not run["invalid_reasons"]
            run["reuse"] = proof.get("reuse")
        runs.append(run)
    return runs
