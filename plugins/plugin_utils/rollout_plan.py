# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a fleet change together, and in which order."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any, Dict, List, Mapping, Sequence, Union

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

# Groups that a rollout makes in the inventory: all its hosts, and those of each wave.
ALL, WAVE = "__fastapi_rollout_all", "__fastapi_rollout_wave"
_SIZE = re.compile(r"(\d+)(%?)\Z")
_WHOLE = 100


def waves(
    hosts: Sequence[str],
    canary: Union[int, str, Sequence[str]],
    sizes: Sequence[Any],
    domains: Mapping[str, str],
    share_percent: int,
) -> List[List[str]]:
    """Return the hosts of each wave, the canaries first.

    ``canary`` is a number of hosts, or their names, which count whatever their
    domains. ``sizes`` are those of the waves
    after it, as numbers or percentages of all hosts; the last goes on until no host
    is left. ``domains`` names each host's failure domain, such as its rack or zone; at
    most ``share_percent`` of a domain's hosts are in one wave (and at least one),
    though the wave be smaller than it was to be. Hosts of one wave are taken from the
    domains by turns. Raises KeepaliveError for what is not understood.
    """
    if not hosts:
        raise KeepaliveError("there is no host to roll out to; look at the inventory")
    if not 1 <= share_percent <= _WHOLE:
        raise KeepaliveError(
            "fastapi_rollout_domain_share_percent is {0}; it must be 1 to 100".format(
                share_percent
            )
        )
    wanted = [_size("fastapi_rollout_waves", each, len(hosts)) for each in sizes]
    if not wanted:
        raise KeepaliveError(
            "fastapi_rollout_waves is empty; give sizes, such as [1, 25%]"
        )
    limits = _limits(hosts, domains, share_percent)
    first = _canaries(hosts, canary, domains, limits)
    planned = [first] if first else []
    left = [each for each in hosts if each not in first]
    while left:
        size = wanted.pop(0) if len(wanted) > 1 else wanted[0]
        wave = _take(left, size, domains, limits)
        planned.append(wave)
        left = [each for each in left if each not in wave]
    return planned


def _size(name: str, given: Any, total: int) -> int:
    """Return a number of hosts, at least one; ``25%`` is of ``total``."""
    found = _SIZE.match(str(given))
    number = int(found.group(1)) if found else 0
    is_share = bool(found and found.group(2))
    if not number or (is_share and number > _WHOLE):
        raise KeepaliveError(
            "{0} has {1!r}; a size is a number of hosts from 1, or a share from 1% to "
            "100%".format(name, given)
        )
    return max(total * number // _WHOLE, 1) if is_share else number


def _canaries(
    hosts: Sequence[str],
    canary: Union[int, str, Sequence[str]],
    domains: Mapping[str, str],
    limits: Mapping[str, int],
) -> List[str]:
    """Return the canaries' names; none for 0 or no name."""
    name = "fastapi_rollout_canary"
    if isinstance(canary, (int, str)):
        if str(canary) == "0":
            return []
        return _take(hosts, _size(name, canary, len(hosts)), domains, limits)
    unknown = [each for each in canary if each not in hosts]
    if unknown:
        raise KeepaliveError(
            "{0} names {1}, which this rollout does not reach; its hosts are "
            "{2}".format(name, ", ".join(unknown), ", ".join(hosts))
        )
    return [each for each in hosts if each in canary]


def _limits(
    hosts: Sequence[str], domains: Mapping[str, str], share_percent: int
) -> Dict[str, int]:
    """Return how many hosts of each domain may change at once."""
    without = [each for each in hosts if domains and not domains.get(each)]
    if without:
        raise KeepaliveError(
            "fastapi_rollout_domain names a variable that {0} lacks; set it for every "
            "host, or leave fastapi_rollout_domain empty".format(", ".join(without))
        )
    counted = Counter(domains.get(each, "") for each in hosts)
    if not domains:
        return {"": len(hosts)}
    return {
        domain: max(math.floor(number * share_percent / _WHOLE), 1)
        for domain, number in counted.items()
    }


def _take(
    left: Sequence[str],
    size: int,
    domains: Mapping[str, str],
    limits: Mapping[str, int],
) -> List[str]:
    """Return the next wave: from the domains by turns, each within its limit."""
    queues: Dict[str, List[str]] = {}
    for host in left:
        domain = domains.get(host, "")
        if len(queues.setdefault(domain, [])) < limits[domain]:
            queues[domain].append(host)
    turns = [
        (turn, order, host)
        for order, queue in enumerate(queues.values())
        for turn, host in enumerate(queue)
    ]
    return [host for _turn, _order, host in sorted(turns)[:size]]


def line(planned: Sequence[Sequence[str]]) -> List[Dict[str, Any]]:
    """Return the hosts as a play shall meet them, each wave's referee at its end.

    ``name``, ``wave`` (from 0) and the inventory ``groups`` that each belongs to.
    """
    return [
        {
            "name": name,
            "wave": number,
            "groups": [ALL, "{0}_{1:05d}".format(WAVE, number)],
        }
        for number, wave in enumerate(planned)
        for name in [*wave, referee(number)]
    ]


def referee(number: int) -> str:
    """Return the name of the host of the controller's own that judges a wave."""
    return "wave {0}".format(number + 1)


def look(
    known: Sequence[Mapping[str, Any]],
    alive: Sequence[str],
    holder: str,
    ended: Sequence[str],
) -> Dict[str, List[str]]:
    """Return which hosts are ``ready``, ``unfit``, ``unreachable``, and in whose hands.

    ``known`` are the variables of all hosts, ``alive`` those still in the play.
    Of them all, those are ``claimed`` that the rollout called ``holder`` has claimed,
    and those ``held`` that another one has; but for one of those that have ``ended``.
    """
    found: Dict[str, List[str]] = {
        "ready": [],
        "unfit": [],
        "unreachable": [],
        "claimed": [],
        "held": [],
    }
    for facts in known:
        name = facts["inventory_hostname"]
        reached = facts.get("__fastapi_rollout_reached") or {}
        host = facts.get("__fastapi_service_host") or {}
        if reached.get("unreachable") or (reached and name not in alive):
            found["unreachable"].append(name)
        # Without an answer, it was refused before it was asked.
        elif facts.get("__fastapi_rollout_unfit") or not reached:
            found["unfit"].append(name)
        else:
            found["ready"].append(name)
        claimed_by = host.get("claim_holder")
        if claimed_by and claimed_by not in ended:
            found["claimed" if claimed_by == holder else "held"].append(name)
    return found


def before(
    known: Sequence[Mapping[str, Any]], planned: Sequence[Sequence[str]]
) -> List[Dict[str, Any]]:
    """Return the events that say where each planned host is now, and the plan."""
    facts = {each["inventory_hostname"]: each for each in known}
    told = [
        {
            "event": "before",
            "host": name,
            "deployment": facts[name]["__fastapi_service_host"]["live_deployment"],
            "release": facts[name]["__fastapi_service_host"]["live_release"],
        }
        for wave in planned
        for name in wave
    ]
    return [*told, {"event": "plan", "waves": [list(wave) for wave in planned]}]
