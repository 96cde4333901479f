# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin a trial of what is deployed next, confirm it, or go back from it."""

from __future__ import annotations

import contextlib
from typing import Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils import history, trial
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Change,
    Goal,
    Host,
    roll_back,
    running,
    stays,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Outcome,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    live_slot,
)


def begin_trial(host: Host, window_s: int, *, dry_run: bool) -> bool:
    """Have the host come back to what it runs now, unless it is told to keep the next.

    ``window_s`` is how long it waits (in seconds). Returns whether it can: before the
    first deployment there is nothing to come back to. Raises KeepaliveError for a
    window out of bounds, and if the host could not do it by itself.
    """
    trial.check_window(window_s)
    layout = host.layout
    with contextlib.nullcontext() if dry_run else host.switch.exclusive():
        now = history.in_force(layout)
        if now is None or dry_run:
            return now is not None
        if trial.under_way(layout) and not trial.is_of_this_boot(layout):
            revert(host, dry_run=False)
            now = running(layout)
        if history.entry_by_key(layout, now.deployment.key) is None:
            history.record(layout, now.deployment, now.verdict, now.reason)
        host.switch.begin_trial(now.deployment.key, window_s)
    return True


def confirm(host: Host, *, dry_run: bool, only: str = "") -> Outcome:
    """Record what is live as good, end its trial, and stop the slot it has replaced.

    With ``only`` "unchanged" it does nothing while something else is live than when
    the trial began; with "trial" or "unchanged" it raises KeepaliveError if none is
    under way, for then the host may have gone back already. Raises it too if nothing
    is live, or what is on trial does not run.
    """
    layout = host.layout
    live = live_slot(layout) or ""
    outcome = Outcome(slot_from=live, slot_to=live)
    with contextlib.nullcontext() if dry_run else host.switch.exclusive():
        # Of one from before a reboot, what was tried is not live any more.
        tried = trial.under_way(layout) if trial.is_of_this_boot(layout) else None
        if only and tried is None and not dry_run:
            raise KeepaliveError(_TOO_LATE.format(layout.name))
        if tried and only == "unchanged" and _has_changed(layout, tried):
            return outcome
        if tried and not host.switch.is_up():
            raise KeepaliveError(
                "slot {0} is live and does not run, so it is not confirmed (journalctl "
                "-u {1})".format(live, layout.service_unit(live))
            )
        if history.confirm(layout, dry_run=dry_run) or (tried and dry_run):
            outcome.did("confirm")
        if tried and not dry_run:
            host.switch.keep()
            host.switch.end_trial()
            _finish(host, outcome)
    return outcome


_TOO_LATE = (
    "no trial is under way on this host: nothing was deployed on trial, or it was not "
    "confirmed in time, or the host was restarted, and so has gone back by itself "
    "(journalctl -u {0}-revert)"
)


def _has_changed(layout: Layout, since: trial.Trial) -> bool:
    return running(layout).deployment.key != since.back_to


def _finish(host: Host, outcome: Outcome) -> None:
    """Stop the slot that is not live any more, if that was left undone."""
    done = host.switch.converge(running(host.layout).deployment.plan)
    for action in done.actions:
        outcome.did(action)
    outcome.connections_drained += done.connections_drained
    outcome.connections_cut += done.connections_cut


def revert(
    host: Host, *, dry_run: bool, only_due: bool = False
) -> Optional[Tuple[Change, Outcome]]:
    """Go back to where the trial began; return None if none is under way.

    Nor does it with ``only_due`` before the trial's time has passed. What was tried
    is marked as bad. Raises KeepaliveError if it cannot go back.
    """
    layout = host.layout
    with contextlib.nullcontext() if dry_run else host.switch.exclusive():
        tried = trial.under_way(layout)
        if tried is None or (only_due and not _is_due(host, tried)):
            return None
        now = running(layout)
        change, outcome = stays(host, now)
        if now.deployment.key != tried.back_to:
            change, outcome = roll_back(host, Goal(), dry_run=dry_run)
        if not dry_run:
            # A reboot has come back from it before.
            history.condemn_unproven(layout, "not confirmed before a reboot")
            host.switch.end_trial()
            _finish(host, outcome)
        return change, outcome


def _is_due(host: Host, tried: trial.Trial) -> bool:
    if not trial.is_of_this_boot(host.layout):
        return True
    return tried.seconds_left(host.switch.now_s()) <= 0
