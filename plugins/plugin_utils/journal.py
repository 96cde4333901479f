# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout has done so far, in a file on the controller.

One line of JSON an event, written when it happens, so that a run that is killed leaves
what the next one needs: where each host was before, and who was promoted.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    BusyError,
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.lock import exclusive

BEGIN, BEFORE, END = "begin", "before", "end"
_SERVICE = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")


@dataclass(frozen=True)
class Journal:
    """One rollout's file; ``id`` tells it from any other of the service."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.stem

    def note(self, event: str, **about: Any) -> None:
        """Add an event, durably, and with the time (UTC)."""
        at = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "event": event, **about}) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write of a line that is appended is not mixed with another's.
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, line.encode("utf-8"))
            os.fsync(handle)
        finally:
            os.close(handle)

    def events(self) -> List[Dict[str, Any]]:
        """Return all events in their order; a line cut short by a crash is left out."""
        return list(_events(self.path))

    @property
    def has_ended(self) -> bool:
        return any(each["event"] == END for each in _events(self.path))

    @property
    def holder(self) -> str:
        """Return by what name the rollout claims its hosts."""
        begun = next(
            (each for each in _events(self.path) if each["event"] == BEGIN), {}
        )
        return "{0}@{1}".format(self.id, begun.get("controller", ""))

    def before(self) -> Dict[str, str]:
        """Return the deployment that each host had when the rollout first met it."""
        found: Dict[str, str] = {}
        for each in _events(self.path):
            if each["event"] == BEFORE:
                found.setdefault(each["host"], each["deployment"])
        return found


def _events(path: Path) -> Iterator[Dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event


def journals(folder: Path, service: str) -> List[Journal]:
    """Return the service's rollouts, the latest last."""
    if not _SERVICE.match(service):
        raise KeepaliveError("no service can be called {0!r}".format(service))
    pattern = "{0}.[0-9]*.jsonl".format(service)
    return [Journal(path) for path in sorted(folder.glob(pattern))]


def unfinished(folder: Path, service: str) -> Optional[Journal]:
    """Return the service's latest rollout if it has not ended; else None."""
    latest = journals(folder, service)[-1:]
    return latest[0] if latest and not latest[0].has_ended else None


def ended(folder: Path, service: str) -> List[str]:
    """Return by what names the service's ended rollouts had claimed their hosts.

    A host that was not reached when its rollout ended is claimed by it still.
    """
    known = journals(folder, service)
    return [each.holder for each in known if each.has_ended]


def open_journal(
    folder: Path,
    service: str,
    controller: Mapping[str, Any],
    is_running: Callable[[Mapping[str, Any]], Optional[bool]],
    *,
    resume: bool,
    take_over: bool = False,
) -> Journal:
    """Go on with the service's unfinished rollout, or begin another.

    Without ``resume`` the unfinished one is given up. ``controller`` names the process
    that begins, and is recorded; ``is_running`` tells whether one that is recorded
    still is, and None where it cannot tell. Raises BusyError if it is, and where it
    cannot tell unless told to ``take_over``.
    """
    with exclusive(folder / ".lock", "another rollout is just beginning; run again"):
        journal = unfinished(folder, service)
        if journal:
            _refuse_running(journal, is_running, take_over)
            if not resume:
                journal.note(END, given_up=True)
        if not journal or not resume:
            stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S%f")
            journal = Journal(folder / "{0}.{1}.jsonl".format(service, stamp))
        journal.note(BEGIN, service=service, **controller)
    return journal


def _refuse_running(
    journal: Journal,
    is_running: Callable[[Mapping[str, Any]], Optional[bool]],
    take_over: bool,
) -> None:
    begun = [each for each in journal.events() if each["event"] == BEGIN][-1:]
    runs = is_running(begun[0]) if begun else False
    if runs:
        raise BusyError(
            "rollout {0} is under way on this controller (process {1}); wait for it to "
            "end".format(journal.id, begun[0].get("pid"))
        )
    if runs is None and not take_over:
        raise BusyError(
            "rollout {0} was begun on the controller {1} and may be under way there; "
            "wait for it to end. If it does not run any more, go on with it: set "
            "fastapi_rollout_take_over to true".format(
                journal.id, begun[0].get("controller")
            )
        )
