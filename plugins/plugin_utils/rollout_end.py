# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a rollout, host by host."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_verdict import (
    DEPLOYED,
    UNREACHABLE,
    seen_of,
)


def promotion(known: Sequence[Mapping[str, Any]]) -> Dict[str, List[str]]:
    """Return which hosts of a wave are ``promoted``, and which are ``lost``.

    A host is lost that was on trial and could not be confirmed: it goes back by itself.
    """
    promoted, lost = [], []
    for facts in known:
        name = facts["inventory_hostname"]
        tried = (facts.get("__fastapi_service_confirmed") or {}).get("on_trial")
        if not tried or seen_of(facts).state != DEPLOYED:
            continue
        told = facts.get("__fastapi_rollout_promoted") or {"failed": True}
        went_wrong = told.get("failed") or told.get("unreachable")
        (lost if went_wrong else promoted).append(name)
    return {"promoted": promoted, "lost": lost}


def after(facts: Mapping[str, Any], stopped: Optional[Mapping[str, Any]]) -> str:
    """Tell what a host runs now, in a few words."""
    host, seen = facts.get("__fastapi_service_host") or {}, seen_of(facts)
    before = host.get("live_release") or "nothing"
    if not stopped:
        return "{0}{1}".format(seen.release, "" if seen.changed else ", as before")
    back = facts.get("__fastapi_rollout_returned") or {"unreachable": True}
    if back.get("unreachable"):
        if seen.state == UNREACHABLE:
            said = "unreachable; if it was on trial, it goes back to {0} by itself"
            return said.format(before)
        return "unreachable; it ran {0} at last".format(seen.release or before)
    if back.get("failed"):
        return "COULD NOT GO BACK: {0}".format(str(back.get("msg")).partition("\n")[0])
    if back.get("skipped"):
        return "{0}, which had nothing before it".format(seen.release or "nothing")
    went = "went back to" if back.get("changed") else "still runs"
    return "{0} {1}".format(went, back.get("release_to", before))


def result(
    known: Sequence[Mapping[str, Any]],
    service: str,
    plan: Sequence[Sequence[str]],
    stopped: Optional[Mapping[str, Any]],
) -> Dict[str, Any]:
    """Return ``after``, what each host runs now, and ``lines``, one screen of all.

    The screen says what happened, where, why, and what each host runs.
    """
    told = {each["inventory_hostname"]: after(each, stopped) for each in known}
    if stopped:
        lines = [
            "The rollout of {0} STOPPED in wave {1} of {2}.".format(
                service, int(stopped["wave"]) + 1, len(plan)
            ),
            *("Why: {0}".format(each) for each in stopped["why"]),
        ]
    else:
        lines = ["The rollout of {0} reached all hosts.".format(service)]
    lines += [
        "wave {0}, {1}: {2}".format(number + 1, name, told[name])
        for number, wave in enumerate(plan)
        for name in wave
    ]
    return {"after": told, "lines": lines}
