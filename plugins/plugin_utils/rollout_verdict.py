# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a rollout may go on after a wave, and why not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Sequence

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
# Of a gate that could not ask its host.
GONE = "unreachable"
DEPLOYED, FAILED, UNREACHABLE = "deployed", "failed", "unreachable"


@dataclass(frozen=True)
class Gate:
    """What one gate said of one host, or of the wave."""

    gate: str
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Seen:
    """What is known of a host of a wave that has begun; unreachable, it is silent."""

    name: str
    state: str = UNREACHABLE
    reason: str = ""
    release: str = ""
    changed: bool = False
    begun_at: str = ""
    ended_at: str = ""
    gates: Sequence[Gate] = field(default_factory=tuple)


@dataclass(frozen=True)
class Limits:
    """What a rollout bears, and what it asks.

    ``max_failed`` and ``max_unreachable`` hosts, of which ``unfit`` and ``unreachable``
    were so before it began; ``inconclusive`` is stop or continue; each host that
    changed must have been asked by all ``gates``.
    """

    max_failed: int
    max_unreachable: int
    inconclusive: str
    gates: Sequence[str] = ()
    unreachable: int = 0
    unfit: int = 0


def seen_of(facts: Mapping[str, Any]) -> Seen:
    """Return what the role has noted of a host."""
    told = facts.get("__fastapi_rollout_outcome") or {}
    gates = [Gate(**each) for each in facts.get("__fastapi_rollout_told") or []]
    if any(gate.verdict == GONE for gate in gates):
        told = {**told, "state": UNREACHABLE}
    return Seen(name=facts["inventory_hostname"], gates=tuple(gates), **told)


def judge(
    hosts: Sequence[Seen], wave: Sequence[str], of_wave: Sequence[Gate], limits: Limits
) -> Dict[str, Any]:
    """Return ``verdict`` and ``reasons``: whether the rollout goes on after ``wave``.

    ``hosts`` are those of this wave and the ones before, ``of_wave`` the gates that
    looked at the wave as a whole.
    """
    reasons = list(_too_many(hosts, limits))
    gates = [
        ("{0}: ".format(host.name), gate)
        for host in hosts
        if host.name in wave and host.state == DEPLOYED
        for gate in [*host.gates, *_unasked(host, limits.gates)]
    ]
    gates += [("", gate) for gate in of_wave]
    reasons += [_said(who, gate) for who, gate in gates if gate.verdict == FAIL]
    if reasons:
        return {"verdict": FAIL, "reasons": reasons}
    doubts = [_said(who, gate) for who, gate in gates if gate.verdict == INCONCLUSIVE]
    if doubts and limits.inconclusive == "stop":
        return {"verdict": INCONCLUSIVE, "reasons": doubts}
    return {"verdict": PASS, "reasons": doubts}


def _unasked(host: Seen, wanted: Sequence[str]) -> Iterator[Gate]:
    """Yield a doubt for each gate that has said nothing of a host that changed."""
    for name in wanted:
        if host.changed and not any(gate.gate == name for gate in host.gates):
            yield Gate(name, INCONCLUSIVE, "it said nothing")


def _too_many(hosts: Sequence[Seen], limits: Limits) -> Iterator[str]:
    """Yield what more hosts suffered than is allowed."""
    failed = [each for each in hosts if each.state == FAILED]
    unreachable = [each.name for each in hosts if each.state == UNREACHABLE]
    if failed and limits.unfit + len(failed) > limits.max_failed:
        for each in failed:
            reason = each.reason.partition("\n")[0]
            yield "{0} could not be deployed to: {1}".format(each.name, reason)
    if unreachable and limits.unreachable + len(unreachable) > limits.max_unreachable:
        yield "unreachable: {0}".format(", ".join(unreachable))


def _said(who: str, gate: Gate) -> str:
    return "{0}gate {1}: {2}".format(who, gate.gate, gate.reason or gate.verdict)


def events_of(
    hosts: Sequence[Seen], wave: Sequence[str], judged: Mapping[str, Any], number: int
) -> List[Dict[str, Any]]:
    """Return a wave's events for the journal."""
    events: List[Dict[str, Any]] = []
    for host in hosts:
        if host.name not in wave:
            continue
        about = {"host": host.name, "wave": number}
        events.append(
            {
                "event": host.state,
                "release": host.release,
                "changed": host.changed,
                "reason": host.reason,
                "begun_at": host.begun_at,
                "ended_at": host.ended_at,
                **about,
            }
        )
        events += [{"event": "gate", **vars(gate), **about} for gate in host.gates]
    return [*events, {"event": "judged", "wave": number, **judged}]
