# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service has run on this host: the way back, and what not to go back to.

A deployment is unproven once its slot is ready, good once it has been seen to serve
through nginx, and bad if it did not become ready or a rollback left it. The order is
a count and never a clock.
"""

from __future__ import annotations

import json
import shutil
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
    for path in sorted(layout.history_dir.glob("*.json"), reverse=True):
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            entry = Entry(
                int(path.stem),
                known["verdict"],
                known["reason"],
                deployment_of(known["deployment"]),
            )
        except (KeyError, TypeError, ValueError):
            continue
        found.append(entry)
    return found


def entry_of(layout: Layout, files: SlotFiles) -> Optional[Entry]:
    """Return the latest entry of a slot's files; None if they are not known."""
    known = entries(layout)
    return next((each for each in known if each.deployment.plan.files == files), None)


def record(
    layout: Layout, deployment: Deployment, verdict: str, reason: str = ""
) -> None:
    """Make this the latest entry, and the only one of the same deployment."""
    known = entries(layout)
    # The environment may hold secrets.
    layout.history_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = {"verdict": verdict, "reason": reason, "deployment": deployment.as_dict()}
    number = known[0].number + 1 if known else 1
    write_atomically(
        _path(layout, number), json.dumps(text, indent=1) + "\n", mode=0o600
    )
    rest = [each for each in known if not _is_outdated(each, deployment)]
    for each in known:
        if each not in rest[: KEPT - 1]:
            _path(layout, each.number).unlink()


def _is_outdated(entry: Entry, deployment: Deployment) -> bool:
    """Tell whether a new entry says all that this one did.

    The same slot files were good with another site: that is worth keeping.
    """
    same = entry.deployment.plan.files == deployment.plan.files
    return entry.deployment.key == deployment.key or (same and entry.verdict != GOOD)


def note_ready(layout: Layout, plan: Plan) -> None:
    """Record what has become ready, unless it is known to be good already."""
    known = entry_of(layout, plan.files)
    if known and known.deployment.plan == plan and known.verdict != BAD:
        return
    record(layout, Deployment(plan, known.deployment.site if known else ""), UNPROVEN)


def note_failure(layout: Layout, plan: Plan, reason: str) -> None:
    """Record what did not become ready, so that nothing goes back to it."""
    known = entry_of(layout, plan.files)
    site = known.deployment.site if known else ""
    record(layout, Deployment(plan, site), BAD, reason)


def confirm(layout: Layout, *, dry_run: bool = False) -> bool:
    """Record that what is live serves well with the site in place.

    Returns whether that was news. Raises KeepaliveError if nothing is live, unless it
    is a ``dry_run``, in which what comes before has made nothing either.
    """
    live = live_slot(layout)
    files = read_slot(layout, live) if live else None
    known = entry_of(layout, files) if files else None
    if known is None and dry_run:
        return True
    if known is None:
        raise KeepaliveError(
            "{0} has no live slot that a switch made; deploy it first".format(
                layout.name
            )
        )
    deployment = replace(known.deployment, site=site_text(layout))
    if known.verdict == GOOD and known.deployment == deployment:
        return False
    if not dry_run:
        record(layout, deployment, GOOD)
    return True


def site_text(layout: Layout) -> str:
    """Return the service's nginx site; empty without one."""
    try:
        return layout.site.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def forget_all(layout: Layout) -> None:
    """Remove what is recorded of a service that is taken away."""
    shutil.rmtree(layout.history_dir, ignore_errors=True)


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
    able = [each for each in other if each.release in there]
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
