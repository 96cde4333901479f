# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service has run on this host: the way back, and what not to go back to.

A deployment is unproven once its slot is ready, good once it has been seen to serve
through nginx, and bad if it did not become ready or a rollback left it. The order is
a count and never a clock.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterable, List, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.deployment import (
    Deployment,
    Plan,
    deployment_of,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    SlotFiles,
    live_slot,
    read_slot,
    write_atomically,
)

UNPROVEN, GOOD, BAD = "unproven", "good", "bad"
# One release may have had several configurations.
KEPT = 20
_NAMES = "[0-9]" * 6 + ".json"


@dataclass(frozen=True)
class Entry:
    """One deployment of the past; the higher ``number``, the later."""

    number: int
    verdict: str
    reason: str
    deployment: Deployment

    @property
    def release(self) -> str:
        return self.deployment.plan.release


def entries(layout: Layout) -> List[Entry]:
    """Return what is recorded, the latest first; what cannot be read is left out."""
    found = []
    for path in sorted(layout.history_dir.glob(_NAMES), reverse=True):
        with contextlib.suppress(KeyError, TypeError, ValueError, FileNotFoundError):
            known = json.loads(path.read_text(encoding="utf-8"))
            found.append(
                Entry(
                    int(path.stem),
                    known["verdict"],
                    known["reason"],
                    deployment_of(known["deployment"]),
                )
            )
    return found


def entry_of(layout: Layout, files: SlotFiles) -> Optional[Entry]:
    """Return the latest entry of a slot's files; None if they are not known."""
    known = entries(layout)
    return next((each for each in known if each.deployment.plan.files == files), None)


def live_entry(layout: Layout) -> Optional[Entry]:
    """Return the latest entry of what is live; None if no switch has recorded it."""
    live = live_slot(layout)
    files = read_slot(layout, live) if live else None
    return entry_of(layout, files) if files else None


def entry_by_key(layout: Layout, key: str) -> Optional[Entry]:
    """Return the entry of the deployment with this key; None if it is not known."""
    return next((each for each in entries(layout) if each.deployment.key == key), None)


def in_force(layout: Layout) -> Optional[Entry]:
    """Return the entry of what is live, with the site that is in place now."""
    known = live_entry(layout)
    if known is None:
        return None
    return replace(known, deployment=replace(known.deployment, site=site_text(layout)))


def longest_switch_s(layout: Layout) -> int:
    """Return how long a switch by what is live may take; 0 if that is not known."""
    known = live_entry(layout)
    plan = known.deployment.plan if known else None
    return plan.start_timeout_s + plan.drain_timeout_s if plan else 0


def record(
    layout: Layout, deployment: Deployment, verdict: str, reason: str = ""
) -> None:
    """Make this the latest entry, and the only one of the same deployment."""
    known = entries(layout)
    number = known[0].number + 1 if known else 1
    _write(layout, Entry(number, verdict, reason, deployment))
    for each in known:
        if _is_outdated(each, deployment):
            _path(layout, each.number).unlink(missing_ok=True)
    _prune(layout)


def _write(layout: Layout, entry: Entry) -> None:
    # The environment may hold secrets.
    layout.history_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = {
        "verdict": entry.verdict,
        "reason": entry.reason,
        "deployment": entry.deployment.as_dict(),
    }
    path = _path(layout, entry.number)
    write_atomically(path, json.dumps(text, indent=1) + "\n", mode=0o600)


def _is_outdated(entry: Entry, deployment: Deployment) -> bool:
    """Tell whether a new entry says all that this one did.

    The same slot files were good with another site: that is worth keeping.
    """
    same = entry.deployment.plan.files == deployment.plan.files
    return entry.deployment.key == deployment.key or (same and entry.verdict != GOOD)


def _prune(layout: Layout) -> None:
    """Forget the oldest, bad ones first, but never what runs or the way back."""
    known, live = entries(layout), live_entry(layout)
    way_back = [each for each in known if each != live and each.verdict == GOOD][:1]
    old = [each for each in reversed(known[1:]) if each not in (live, *way_back)]
    old.sort(key=lambda each: each.verdict != BAD)
    for each in old[: max(len(known) - KEPT, 0)]:
        _path(layout, each.number).unlink(missing_ok=True)


def note_switch(layout: Layout, plan: Plan) -> None:
    """Record what has become ready and is about to be live, as the latest entry."""
    known = entry_of(layout, plan.files)
    good = known is not None and known.verdict == GOOD
    site = known.deployment.site if known else ""
    record(layout, Deployment(plan, site), GOOD if good else UNPROVEN)


def note_stay(layout: Layout, plan: Plan) -> None:
    """Keep the plan of what stays live; it may be judged otherwise from now on."""
    known = entry_of(layout, plan.files)
    if known is None:
        record(layout, Deployment(plan, ""), UNPROVEN)
    elif known.deployment.plan != plan:
        deployment = replace(known.deployment, plan=plan)
        _write(layout, replace(known, deployment=deployment))


def note_failure(layout: Layout, plan: Plan, reason: str) -> None:
    """Record what did not become ready, so that nothing goes back to it.

    Except for what is live: that new processes of it fail says nothing of those
    that serve.
    """
    live = live_entry(layout)
    if live and live.deployment.plan.files == plan.files:
        return
    same = [
        each
        for each in entries(layout)
        if each.deployment.plan.files == plan.files and each.deployment.site
    ]
    for each in same:
        _write(layout, replace(each, verdict=BAD, reason=reason))
    if not same:
        record(layout, Deployment(plan, ""), BAD, reason)


def condemn_unproven(layout: Layout, reason: str) -> None:
    """Mark what has not been seen to serve well, and is not live, as bad."""
    live = live_entry(layout)
    for each in entries(layout):
        if each.verdict == UNPROVEN and each != live:
            _write(layout, replace(each, verdict=BAD, reason=reason))


def is_confirmed(layout: Layout) -> bool:
    """Tell whether what is live, with the site in place, is recorded as good."""
    known = live_entry(layout)
    return known is not None and _is_good_with(known, site_text(layout))


def _is_good_with(known: Entry, site: str) -> bool:
    return known.verdict == GOOD and known.deployment.site == site


def confirm(layout: Layout, *, dry_run: bool = False) -> bool:
    """Record that what is live serves well with the site in place.

    Returns whether that was news. Raises KeepaliveError if nothing is live, unless it
    is a ``dry_run``, in which what comes before has made nothing either.
    """
    known = live_entry(layout)
    if known is None and dry_run:
        return True
    if known is None:
        raise KeepaliveError(
            "{0} has no live slot that a switch made; deploy it first".format(
                layout.name
            )
        )
    site = site_text(layout)
    if _is_good_with(known, site):
        return False
    if not dry_run:
        record(layout, replace(known.deployment, site=site), GOOD)
    return True


def site_text(layout: Layout) -> str:
    """Return the service's nginx site; empty without one."""
    try:
        return layout.site.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def begin_rollback(layout: Layout, target: str) -> None:
    """Note the key of what a rollback is on its way to, until it is there."""
    write_atomically(_unfinished(layout), target + "\n", mode=0o600)


def unfinished_rollback(layout: Layout) -> Optional[Entry]:
    """Return what an interrupted rollback was on its way to; None without one."""
    try:
        target = _unfinished(layout).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    return entry_by_key(layout, target)


def end_rollback(layout: Layout) -> None:
    """Note that no rollback is unfinished, or that a deployment has overtaken it."""
    _unfinished(layout).unlink(missing_ok=True)


def forget_all(layout: Layout) -> None:
    """Remove what is recorded of a service that is taken away."""
    end_rollback(layout)
    for pattern in (_NAMES, ".new-*"):
        for path in layout.history_dir.glob(pattern):
            path.unlink(missing_ok=True)
    # What somebody else put there is theirs to remove.
    with contextlib.suppress(OSError):
        layout.history_dir.rmdir()


def _unfinished(layout: Layout) -> Path:
    return layout.history_dir / "unfinished-rollback"


def _path(layout: Layout, number: int) -> Path:
    return layout.history_dir / "{0:06d}.json".format(number)


def choose(
    known: Sequence[Entry], current: str, releases: Iterable[str], wanted: str = ""
) -> Entry:
    """Return what to go back to: the release ``wanted``, or else the last good one.

    ``current`` is the key of what runs, ``releases`` are those on the host. Raises
    KeepaliveError if there is nothing to go back to.
    """
    there = set(releases)
    other = [each for each in known if each.deployment.key != current]
    # Without its site, what it serves by is not known.
    able = [each for each in other if each.release in there and each.deployment.site]
    if wanted:
        named = [each for each in able if each.release == wanted]
        chosen = _latest(named, GOOD) or next(iter(named), None)
    else:
        chosen = _latest(able, GOOD)
    if chosen is None:
        raise KeepaliveError(_nothing(other, able, wanted))
    return chosen


def _latest(known: Sequence[Entry], verdict: str) -> Optional[Entry]:
    return next((each for each in known if each.verdict == verdict), None)


def _nothing(other: Sequence[Entry], able: Sequence[Entry], wanted: str) -> str:
    known = ["{0} ({1})".format(each.release, each.verdict) for each in able]
    gone = [each.release for each in other if each not in able]
    return (
        "release: this host has no {what} to go back to. Besides what runs it knows "
        "{known}.{gone} Deploy what you want with site.yml".format(
            what="release {0}".format(wanted) if wanted else "good release",
            known=", ".join(dict.fromkeys(known)) or "none",
            gone=" Removed since: {0}.".format(", ".join(dict.fromkeys(gone)))
            if gone
            else "",
        )
    )
