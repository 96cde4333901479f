# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that a service has on its host: status, and an operator's verbs.

It is what the modules do, for a person who is logged in and for systemd's timers, and
needs no controller.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    BusyError,
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.memory import (
    unit_memory_mb,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Change,
    Goal,
    Host,
    host_of,
    recycle,
    roll_back,
    running,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Result
from ansible_collections.keepalive.fastapi.plugins.module_utils.service_facts import (
    service_facts,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Outcome,
    as_result,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    live_slot,
    write_atomically,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd
from ansible_collections.keepalive.fastapi.plugins.module_utils.trial_verbs import (
    confirm,
    revert,
)

# EX_TEMPFAIL of sysexits.h: another switch is under way.
BUSY_STATUS = 75


def main(name: str, releases_dir: str, words: Optional[Sequence[str]] = None) -> int:
    """Do what the command line asks for; return the exit status."""
    given = _parser(name).parse_args(words)
    try:
        _refuse_others_than_root()
        said = _answer(Layout(name), Path(releases_dir), given)
    except (KeepaliveError, OSError) as error:
        sys.stderr.write("fastapi-{0}: {1}\n".format(name, error))
        return BUSY_STATUS if isinstance(error, BusyError) else 1
    sys.stdout.write(said + "\n")
    return 0


def _refuse_others_than_root() -> None:
    if os.geteuid() != 0:
        raise KeepaliveError("run it as root, for example with sudo")


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastapi-{0}".format(name),
        description="The FastAPI service {0} on this host. A switch loses no request: "
        "the other slot is started and probed before new connections go to it, and the "
        "old one stops when its connections have ended.".format(name),
        epilog="Exit status: 0 done or nothing to do, 1 failed, {0} another switch is "
        "under way.".format(BUSY_STATUS),
    )
    _add_verbs(parser)
    return parser


def _add_verbs(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    status = verbs.add_parser("status", help="what runs, and what ran before")
    anew = verbs.add_parser("recycle", help="new processes of the same release")
    anew.add_argument(
        "--above-memory-mb",
        type=float,
        default=0,
        metavar="MB",
        help="only if the live slot's processes use more than that",
    )
    anew.add_argument(
        "--min-age-s",
        type=float,
        default=0,
        metavar="S",
        help="only if the live slot has run for so long",
    )
    back = verbs.add_parser("rollback", help="the last good release, or a named one")
    back.add_argument("release", nargs="?", default="", metavar="RELEASE")
    kept = verbs.add_parser("confirm", help="keep what is live on trial")
    left = verbs.add_parser("revert", help="go back from what is on trial, if anything")
    left.add_argument("--due", action="store_true", help="only if its time has passed")
    for verb in (anew, back, kept, left):
        verb.add_argument("--check", action="store_true", help="tell what would be")
    for verb in (status, anew, back, kept, left):
        verb.add_argument("--json", action="store_true", help="as one JSON object")


def _answer(layout: Layout, releases_dir: Path, given: argparse.Namespace) -> str:
    systemd = Systemd(run)
    if given.verb == "status":
        facts = {
            "service": layout.name,
            **service_facts(layout, systemd, releases_dir),
            **recycle_facts(layout, systemd),
        }
        del facts["tried_before_s"]
        return json.dumps(facts, indent=1) if given.json else "\n".join(_told(facts))
    host = host_of(layout, releases_dir, run)
    if given.verb == "recycle":
        return _recycle(host, systemd, given)
    if given.verb == "confirm":
        outcome = confirm(host, dry_run=given.check)
        now = running(layout).deployment
        return _done("confirmed", Change(now, now), outcome, given)
    if given.verb == "revert":
        done = revert(host, dry_run=given.check, only_due=given.due)
        if done is None:
            reason = "no trial is under way, or it goes on"
            return _nothing("nothing to do", reason, given)
    else:
        done = roll_back(host, Goal(given.release), dry_run=given.check)
    return _done("rolled back", *done, given)


def _recycle(host: Host, systemd: Systemd, given: argparse.Namespace) -> str:
    """Recycle unless there is a reason to wait, also once no switch is under way."""

    def why_not() -> str:
        return reason_to_wait(
            recycle_facts(host.layout, systemd), given.above_memory_mb, given.min_age_s
        )

    reason = why_not()
    if not reason:
        with contextlib.nullcontext() if given.check else host.switch.exclusive():
            reason = why_not()
            if not reason:
                if not given.check:
                    note_attempt(host.layout, time.monotonic())
                change, outcome = recycle(host, dry_run=given.check)
                return _done("recycled", change, outcome, given)
    return _nothing("not recycled", reason, given)


def _nothing(what: str, reason: str, given: argparse.Namespace) -> str:
    if given.json:
        return json.dumps({"changed": False, "reason": reason})
    return "{0}: {1}".format(what, reason)


def recycle_facts(layout: Layout, systemd: Systemd) -> Dict[str, float]:
    """Return the live slot's memory (MB) and age, and the last attempt's (seconds)."""
    live, now_s = live_slot(layout), time.monotonic()
    unit = layout.service_unit(live) if live else ""
    return {
        "memory_mb": round(unit_memory_mb(unit), 1) if unit else 0.0,
        "age_s": round(systemd.active_for_s(unit, now_s), 1) if unit else 0.0,
        "tried_before_s": round(now_s - last_attempt_s(layout), 1),
    }


def note_attempt(layout: Layout, now_s: float) -> None:
    """Remember that it was tried: what fails is not tried again each minute."""
    write_atomically(layout.recycled, "{0:.0f}\n".format(now_s), 0o600)


def last_attempt_s(layout: Layout) -> float:
    """Return when a recycle was last tried; long ago if never since the boot."""
    try:
        return float(layout.recycled.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return -float("inf")


def reason_to_wait(
    facts: Mapping[str, float], above_memory_mb: float, min_age_s: float
) -> str:
    """Tell why the live slot need not be recycled; empty if it is to be."""
    if above_memory_mb and facts["memory_mb"] <= above_memory_mb:
        return "its processes use {0} MB, not more than {1:g}".format(
            facts["memory_mb"], above_memory_mb
        )
    if facts["age_s"] < min_age_s:
        return "its processes use {0} MB, but run for {1} s only, not {2:g}".format(
            facts["memory_mb"], facts["age_s"], min_age_s
        )
    if facts["tried_before_s"] < min_age_s:
        return "it was tried {0} s ago, which is less than {1:g}".format(
            facts["tried_before_s"], min_age_s
        )
    return ""


def _told(facts: Mapping[str, Any]) -> Iterator[str]:
    live = facts["live_slot"]
    if not live:
        yield "service {0}: not deployed".format(facts["service"])
        return
    slot = facts["slots"][live]
    yield (
        "service {0}: release {1} in slot {2} ({3}), {4} connections, {5} MB, for "
        "{6} s".format(
            facts["service"],
            facts["live_release"],
            live,
            slot["active_state"],
            slot["connections"],
            facts["memory_mb"],
            facts["age_s"],
        )
    )
    if facts["trial"]:
        yield "  on trial: goes back to release {0} in {1} s unless confirmed".format(
            facts["trial"]["back_to_release"], facts["trial"]["seconds_left"]
        )
    for each in facts["history"]:
        reason = " ({0})".format(each["reason"]) if each["reason"] else ""
        yield "  {0} {1}{2}".format(each["release"], each["verdict"], reason)


def _done(
    what: str, change: Change, outcome: Outcome, given: argparse.Namespace
) -> str:
    before, after = change.before.plan.release, change.after.plan.release
    if given.json:
        facts = {"release_from": before, "release_to": after, **as_result(outcome)}
        return json.dumps(facts)
    if not outcome.changed:
        return "nothing to do: release {0} in slot {1}".format(after, outcome.slot_to)
    if outcome.slot_from == outcome.slot_to:
        return "{0}: release {1} in slot {2}".format(what, after, outcome.slot_to)
    way = "release {0} in slot {1} to {2} in slot {3}".format(
        before, outcome.slot_from, after, outcome.slot_to
    )
    if given.check:
        return "would be {0}: {1}".format(what, way)
    return (
        "{0}: {1}; ready after {2} s, old slot stopped after {3} s, {4} connections "
        "cut".format(
            what,
            way,
            outcome.seconds_to_ready,
            outcome.seconds_to_stopped,
            outcome.connections_cut,
        )
    )


def run(
    argv: Sequence[str],
    *,
    cwd: Optional[str] = None,
    env: Optional[Mapping[str, str]] = None,
) -> Result:
    """Run a command as a Runner does, with messages in English."""
    done = subprocess.run(
        list(argv),
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr
