# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment on trial: unless it is confirmed in time, the host goes back by itself.

Routers call it a confirmed commit (RFC 6241, section 8.4). The host keeps the time, so
neither a dead controller nor a cut network leaves it on what nobody has approved. Until
then the slot that was live runs on and is the one that a reboot comes back to, so
that the way back is one rename.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from typing import Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    REVERT,
    Layout,
    write_atomically,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd

_TIMER = """\
# Written by keepalive.fastapi.fastapi_trial; gone with the trial.
[Unit]
Description=Take FastAPI service {name} back, unless its deployment is confirmed

[Timer]
OnActiveSec={window_s}
AccuracySec=100ms
"""


@dataclass(frozen=True)
class Trial:
    """What a host goes back to: the deployment with the key ``back_to``.

    ``ends_s`` is by the monotonic clock, ``window_s`` what it was given (in seconds).
    """

    back_to: str
    window_s: int
    ends_s: float

    def seconds_left(self, now_s: float) -> float:
        """Return how long it may still be confirmed; a reboot ends it at once."""
        return round(min(max(self.ends_s - now_s, 0.0), self.window_s), 1)


SHORTEST_S, LONGEST_S = 5, 86_400


def check_window(window_s: int) -> None:
    """Raise KeepaliveError for a window that is too short or too long."""
    if not SHORTEST_S <= window_s <= LONGEST_S:
        raise KeepaliveError(
            "window_s is {0}; it must be {1} to {2}".format(
                window_s, SHORTEST_S, LONGEST_S
            )
        )


def under_way(layout: Layout) -> Optional[Trial]:
    """Return the trial that has not ended; None without one."""
    with contextlib.suppress(FileNotFoundError, KeyError, TypeError, ValueError):
        return Trial(**json.loads(layout.trial.read_text(encoding="utf-8")))
    return None


def is_of_this_boot(layout: Layout) -> bool:
    """Tell whether the trial was begun since the host has started."""
    return layout.revert_timer.exists()


def begin(
    layout: Layout, systemd: Systemd, back_to: str, window_s: int, now_s: float
) -> None:
    """Have the host go back to ``back_to`` in so many seconds, unless it ends before.

    A trial that is under way goes on for as long, back to where it would have. Raises
    KeepaliveError if there is nothing on the host that could go back.
    """
    service = layout.own_unit(REVERT).name
    if systemd.show(service, "LoadState")["LoadState"] != "loaded":
        raise KeepaliveError(
            "{0} is not on this host, so it could not go back by itself; run the role "
            "with the tag fastapi_service_upkeep first".format(service)
        )
    before = under_way(layout)
    # Before the record, without which it does nothing.
    write_atomically(
        layout.revert_timer, _TIMER.format(name=layout.name, window_s=window_s), 0o644
    )
    systemd.reload_units()
    systemd.act("restart", [layout.revert_timer.name])
    trial = Trial(before.back_to if before else back_to, window_s, now_s + window_s)
    write_atomically(layout.trial, json.dumps(asdict(trial)) + "\n", 0o600)


def end(layout: Layout, systemd: Systemd) -> None:
    """Have nothing go back by itself any more."""
    layout.trial.unlink(missing_ok=True)
    if layout.revert_timer.exists():
        systemd.act("stop", [layout.revert_timer.name])
        layout.revert_timer.unlink()
