# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the results of a rollout's gates say: pass, fail, or that they cannot tell."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_verdict import (
    FAIL,
    GONE,
    INCONCLUSIVE,
    PASS,
    Gate,
)


def judged(gate: str, result: Mapping[str, Any], margin_percent: float = 0) -> Gate:
    """Judge the result of a gate's module, or command.

    ``margin_percent`` is the benchmark's. Raises KeyError for an unknown gate.
    """
    if result.get("unreachable"):
        return Gate(gate, GONE, _why(result, "unreachable"))
    if gate == "benchmark":
        return benchmark_gate(result, margin_percent)
    others: Dict[str, Callable[[str, Mapping[str, Any]], Gate]] = {
        "command": command_gate,
        "findings": findings_gate,
        "health": probe_gate,
        "probe": probe_gate,
    }
    return others[gate](gate, result)


def probe_gate(name: str, result: Mapping[str, Any]) -> Gate:
    """Judge a result of the module loss_probe: not one request may be lost."""
    if _has_failed(result) or not result.get("requests"):
        return Gate(name, INCONCLUSIVE, _why(result, "it sent no request"))
    said = "{0} of {1} requests lost".format(result["lost"], result["requests"])
    if result["lost"]:
        first = (result.get("failures") or [{}])[0]
        return Gate(name, FAIL, "{0}, the first: {1}".format(said, _failure(first)))
    return Gate(name, PASS, said)


def findings_gate(name: str, result: Mapping[str, Any]) -> Gate:
    """Judge a result of the module keepalive_info: it may find no error."""
    if _has_failed(result) or "findings" not in result:
        return Gate(name, INCONCLUSIVE, _why(result, "it found out nothing"))
    errors = [each for each in result["findings"] if each["severity"] == "error"]
    if errors:
        said = "; ".join("{id}: {reason}".format(**each) for each in errors)
        return Gate(name, FAIL, said)
    return Gate(name, PASS, "no error")


def command_gate(name: str, result: Mapping[str, Any]) -> Gate:
    """Judge a command's exit status: 0 passes, 1 fails, any other cannot tell."""
    status = result.get("rc")
    if status is None:
        return Gate(name, INCONCLUSIVE, _why(result, "it did not end"))
    said = (result.get("stderr") or result.get("stdout") or "").strip()
    first = said.partition("\n")[0]
    if status not in (0, 1):
        reason = "exit status {0}{1}".format(status, "; " + first if first else "")
        return Gate(name, INCONCLUSIVE, reason)
    reason = first or "exit status {0}".format(status)
    return Gate(name, FAIL if status else PASS, reason)


def benchmark_gate(result: Mapping[str, Any], margin_percent: float) -> Gate:
    """Judge what is on trial against what ran before: it may not be slower by more.

    ``result`` is benchmark_report's, or has ``skipped``. It passes if every interval
    ends above the margin, fails if one lies wholly below it, and cannot tell otherwise
    (a test of non-inferiority; a margin of 5 % lets a rate of 95 % pass).
    """
    if result.get("skipped"):
        return Gate("benchmark", PASS, "the application is what ran before")
    compared = result.get("comparisons") or []
    if _has_failed(result) or not compared:
        return Gate("benchmark", INCONCLUSIVE, _why(result, "nothing was measured"))
    least = 1 - margin_percent / 100
    said = "; ".join(_compared(each) for each in compared)
    if any(each["high"] is not None and each["high"] < least for each in compared):
        return Gate("benchmark", FAIL, said)
    if all(each["low"] is not None and each["low"] >= least for each in compared):
        return Gate("benchmark", PASS, said)
    return Gate("benchmark", INCONCLUSIVE, said)


def _compared(each: Mapping[str, Any]) -> str:
    where = "{0} on {1}".format(each["case"], each["host"])
    if each["ratio"] is None:
        return "{0}: invalid, {1}".format(where, "; ".join(each["reasons"]))
    return "{0}: {1:.3f} times as fast ({2:.3f} to {3:.3f})".format(
        where, each["ratio"], each["low"], each["high"]
    )


def reason_of(result: Mapping[str, Any]) -> str:
    """Return why a task failed, in one line: of a loop, its first failure's reason."""
    failed = [each for each in result.get("results") or [] if each.get("failed")]
    lines = str((failed or [result])[0].get("msg") or "see above").splitlines()
    # The validation of arguments says in its first line that it has failed.
    return lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]


def _has_failed(result: Mapping[str, Any]) -> bool:
    return bool(result.get("failed"))


def _why(result: Mapping[str, Any], otherwise: str) -> str:
    return (str(result.get("msg") or "") or otherwise).partition("\n")[0]


def _failure(failure: Mapping[str, Any]) -> str:
    return ", ".join("{0} {1}".format(key, value) for key, value in failure.items())
