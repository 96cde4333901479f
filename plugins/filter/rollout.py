# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that plan a rollout and judge its waves."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Sequence

from ansible.errors import AnsibleFilterError
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_end import (
    promotion,
    result,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_gates import (
    judged,
    reason_of,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_plan import (
    before,
    line,
    look,
    waves,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_verdict import (
    Gate,
    Limits,
    events_of,
    judge,
    seen_of,
)


def rollout_waves(
    hosts: List[str],
    canary: Any,
    sizes: List[Any],
    domains: Mapping[str, str],
    share_percent: int,
) -> List[List[str]]:
    """Plan the waves; AnsibleFilterError carries every refusal."""
    try:
        return waves(hosts, canary, sizes, domains, share_percent)
    except KeepaliveError as error:
        raise AnsibleFilterError(str(error)) from error


def rollout_line(planned: List[List[str]]) -> List[Dict[str, Any]]:
    """Return hosts and referees in order; see rollout_plan.line."""
    return line(planned)


def rollout_look(
    known: List[Mapping[str, Any]], alive: List[str], holder: str, ended: List[str]
) -> Dict[str, List[str]]:
    """Return which hosts are ready, and which are not; see rollout_plan.look."""
    return look(known, alive, holder, ended)


def rollout_before(
    known: List[Mapping[str, Any]], planned: List[List[str]]
) -> List[Dict[str, Any]]:
    """Return the events that begin a journal; see rollout_plan.before."""
    return before(known, planned)


def rollout_verdict(
    known: Sequence[Mapping[str, Any]],
    wave: Sequence[str],
    number: int,
    limits: Mapping[str, Any],
    of_wave: Sequence[Mapping[str, Any]],
) -> Dict[str, Any]:
    """Judge the wave with this number, from 0; ``events`` are for the journal."""
    hosts = [seen_of(each) for each in known]
    gates = [Gate(**each) for each in of_wave]
    verdict = judge(hosts, wave, gates, Limits(**limits))
    return {**verdict, "events": events_of(hosts, wave, verdict, number)}


def rollout_gate(
    result: Mapping[str, Any], gate: str, margin_percent: float = 0
) -> Dict[str, Any]:
    """Judge the result of a gate's module; see rollout_gates.judged."""
    return dict(vars(judged(gate, result, float(margin_percent))))


def rollout_reason(result: Mapping[str, Any]) -> str:
    """Return why a task failed; see rollout_gates.reason_of."""
    return reason_of(result)


def rollout_promotion(known: Sequence[Mapping[str, Any]]) -> Dict[str, List[str]]:
    """Return who is promoted and who is lost; see rollout_end.promotion."""
    return promotion(known)


def rollout_result(
    known: Sequence[Mapping[str, Any]],
    rollout: Mapping[str, Any],
    passed: int,
    why: Sequence[str],
) -> Dict[str, Any]:
    """Return what became of it; see rollout_end.result."""
    return result(known, rollout, int(passed), why)


class FilterModule:
    """Filters by name, as Ansible looks them up."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {
            "rollout_before": rollout_before,
            "rollout_gate": rollout_gate,
            "rollout_line": rollout_line,
            "rollout_look": rollout_look,
            "rollout_promotion": rollout_promotion,
            "rollout_reason": rollout_reason,
            "rollout_result": rollout_result,
            "rollout_verdict": rollout_verdict,
            "rollout_waves": rollout_waves,
        }
