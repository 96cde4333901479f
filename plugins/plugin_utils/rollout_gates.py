# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the results of a rollout's gates say: pass, fail, or that they cannot tell."""

from __future__ import annotations

from typing import Any, Mapping

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_verdict import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Gate,
)


def probe_gate(name: str, result: Mapping[str, Any]) -> Gate:
    """Judge a result of the module loss_probe: not one request may be lost."""
    if _has_failed(result) or not result.get("requests"):
        return Gate(name, INCONCLUSIVE, _why(result, "it sent no request"))
    said = "{0} of {1} requests lost".format(result["lost"], result["requests"])
    if result["lost"]:
        first = (result.get("failures") or [{}])[0]
        return Gate(name, FAIL, "{0}, the first: {1}".format(said, _failure(first)))
    return Gate(name, PASS, said)


def findings_gate(result: Mapping[str, Any]) -> Gate:
    """Judge a result of the module keepalive_info: it may find no error."""
    if _has_failed(result) or "findings" not in result:
        return Gate("findings", INCONCLUSIVE, _why(result, "it found out nothing"))
    errors = [each for each in result["findings"] if each["severity"] == "error"]
    if errors:
        said = "; ".join("{id}: {reason}".format(**each) for each in errors)
        return Gate("findings", FAIL, said)
    return Gate("findings", PASS, "no error")


def command_gate(result: Mapping[str, Any]) -> Gate:
    """Judge a command's exit status: 0 passes, 1 fails, any other cannot tell."""
    status = result.get("rc")
    said = (result.get("stderr") or result.get("stdout") or "").strip()
    if status not in (0, 1):
        reason = _why(result, "exit status {0}; {1}".format(status, said))
        return Gate("command", INCONCLUSIVE, reason)
    reason = said.partition("\n")[0] or "exit status {0}".format(status)
    return Gate("command", FAIL if status else PASS, reason)


def _has_failed(result: Mapping[str, Any]) -> bool:
    return bool(result.get("failed") or result.get("unreachable"))


def _why(result: Mapping[str, Any], otherwise: str) -> str:
    return (str(result.get("msg") or "") or otherwise).partition("\n")[0]


def _failure(failure: Mapping[str, Any]) -> str:
    return ", ".join("{0} {1}".format(key, value) for key, value in failure.items())
