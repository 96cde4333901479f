# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of a rollout, host by host."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Sequence

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_verdict import (
    DEPLOYED,
    seen_of,
)


def promotion(known: Sequence[Mapping[str, Any]]) -> Dict[str, List[str]]:
    """Return which hosts of a wave are ``promoted``, ``lost`` or ``gone``.

    A host that could not be confirmed is lost, for it goes back by itself; one that
    could not be asked is gone, and may.
    """
    found: Dict[str, List[str]] = {"promoted": [], "lost": [], "gone": []}
    for facts in known:
        seen = seen_of(facts)
        confirmed = facts.get("__fastapi_service_confirmed") or {}
        if seen.state != DEPLOYED or not confirmed.get("on_trial"):
            continue
        told = facts.get("__fastapi_rollout_promoted") or {"failed": True}
        if told.get("unreachable"):
            found["gone"].append(seen.name)
        elif told.get("failed") or told.get("release") != seen.release:
            found["lost"].append(seen.name)
        else:
            found["promoted"].append(seen.name)
    return found


def after(facts: Mapping[str, Any], *, stopped: bool) -> str:
    """Tell what a host runs now, in a few words."""
    host, seen = facts.get("__fastapi_service_host") or {}, seen_of(facts)
    before = host.get("live_release") or "nothing"
    if not stopped:
        if seen.state != DEPLOYED:
            return "{0}: {1}; it ran {2}".format(
                seen.state.upper(),
                seen.reason.partition("\n")[0] or "no answer",
                before,
            )
        return "{0}{1}".format(seen.release, "" if seen.changed else ", as before")
    back = facts.get("__fastapi_rollout_returned") or {"unreachable": True}
    if back.get("unreachable"):
        return _unreachable(facts, before)
    if back.get("failed"):
        return "COULD NOT GO BACK: {0}".format(str(back.get("msg")).partition("\n")[0])
    if back.get("skipped"):
        return "{0}, which had nothing before it".format(seen.release or "nothing")
    went = "went back to" if back.get("changed") else "still runs"
    nginx = facts.get("__fastapi_rollout_nginx_returned") or {}
    rest = "; its nginx.conf COULD NOT be put back" if nginx.get("failed") else ""
    return "{0} {1}{2}".format(went, back.get("release_to", before), rest)


def _unreachable(facts: Mapping[str, Any], before: str) -> str:
    promoted = facts.get("__fastapi_rollout_promoted") or {}
    if promoted.get("release"):
        said = "unreachable; it KEEPS {0}, which was confirmed, until {1} is run there"
        return said.format(promoted["release"], "playbooks/rollback.yml")
    return "unreachable; if it was on trial, it goes back to {0} by itself".format(
        before
    )


def result(
    known: Sequence[Mapping[str, Any]],
    rollout: Mapping[str, Any],
    passed: int,
    why: Sequence[str],
) -> Dict[str, Any]:
    """Return ``after``, what each host runs now, and ``lines``, one screen of all.

    And whether it ``stopped``, and ``why``.

    ``rollout`` has ``service``, ``plan``, ``before`` and who was left out as ``unfit``
    or ``unreachable``; ``passed`` is the number of waves that have. The screen says
    what happened, where, why, and what each host runs.
    """
    service, plan = rollout["service"], rollout["plan"]
    stopped = passed < len(plan)
    told = {each["inventory_hostname"]: after(each, stopped=stopped) for each in known}
    reasons = list(why or [_UNJUDGED]) if stopped else []
    lines = ["The rollout of {0} reached all waves.".format(service)]
    if stopped:
        lines = [
            "The rollout of {0} STOPPED in wave {1} of {2}.".format(
                service, passed + 1, len(plan)
            ),
            *("Why: {0}".format(each) for each in reasons),
        ]
    lines += [
        "wave {0}, {1}: {2}".format(number + 1, name, told[name])
        for number, wave in enumerate(plan)
        for name in wave
    ]
    lines += list(_left_out(rollout, told))
    return {"after": told, "lines": lines, "stopped": stopped, "why": reasons}


_UNJUDGED = "the wave could not be judged; the task above that failed tells why"


def _left_out(rollout: Mapping[str, Any], told: Mapping[str, str]) -> Iterator[str]:
    for kind in ("unfit", "unreachable"):
        for name in rollout[kind]:
            yield "{0}: left out, for it was {1}".format(name, kind)
    for name in rollout["before"]:
        if name not in told and name not in rollout["unfit"] + rollout["unreachable"]:
            yield "{0}: was in the run that was interrupted, and is not in this".format(
                name
            )
