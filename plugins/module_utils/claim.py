# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service on a host is one rollout's at a time, whichever controller that runs on.

A claim ends by itself, by the monotonic clock, so that a controller which is gone
blocks nobody for ever; a reboot ends it too.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    BusyError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.lock import exclusive
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    write_atomically,
)

_LOCK_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Claim:
    """Who rolls out to this host, and until when by the monotonic clock (seconds)."""

    holder: str
    ends_s: float


def current(layout: Layout, now_s: float) -> Optional[Claim]:
    """Return the claim in force; None without one, or one that has ended."""
    with contextlib.suppress(FileNotFoundError, KeyError, TypeError, ValueError):
        claim = Claim(**json.loads(layout.claim.read_text(encoding="utf-8")))
        if claim.ends_s > now_s:
            return claim
    return None


def take(layout: Layout, holder: str, ttl_s: int, now_s: float) -> bool:
    """Claim the service for so many seconds from now; return whether that is news.

    Raises BusyError if somebody else's claim is in force.
    """
    with _alone(layout):
        known = current(layout, now_s)
        refuse_other(layout, known, holder, now_s)
        text = json.dumps(asdict(Claim(holder, now_s + ttl_s))) + "\n"
        write_atomically(layout.claim, text, 0o644)
        return known is None


def refuse_other(
    layout: Layout, known: Optional[Claim], holder: str, now_s: float
) -> None:
    """Raise BusyError if somebody else holds the service."""
    if known and known.holder != holder:
        raise BusyError(
            "{0} is being rolled out to this host by {1}, for another {2:.0f} s at "
            "most; wait for it to end, or go on with that one".format(
                layout.name, known.holder, known.ends_s - now_s
            )
        )


def give_up(layout: Layout, holder: str, now_s: float) -> bool:
    """End the holder's claim; return whether there was one. Others' are left alone."""
    with _alone(layout):
        known = current(layout, now_s)
        if known is None or known.holder != holder:
            return False
        layout.claim.unlink()
        return True


def _alone(layout: Layout) -> "contextlib.AbstractContextManager[None]":
    path = layout.claim.with_name(layout.claim.name + ".lock")
    busy = "{0} is held; run again".format(path)
    return exclusive(path, busy, timeout_s=_LOCK_TIMEOUT_S)
