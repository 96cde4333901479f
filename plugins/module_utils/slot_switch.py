# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switch a service from one slot to the other without losing a request.

The idle slot is written, started and probed over its own socket until it
really answers; one rename sends new connections to it; the old slot stops
when nginx holds no connection to it any more. Everything before the rename
leaves the live slot as it is, so a failure there costs nothing.
"""

from __future__ import annotations

import contextlib
import grp
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils import (
    history,
    slots,
    start_log,
    trial,
    unix_connections,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.deployment import Plan
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    BusyError,
    KeepaliveError,
    NotReadyError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.lock import exclusive
from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import (
    ask_socket,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd

PROBE_INTERVAL_S = 0.1
PROBE_TIMEOUT_S = 2.0
# How long a slot that has run all the time may take to answer.
WARM_TIMEOUT_S = 10.0
DRAIN_INTERVAL_S = 0.2
# A connect() begun before the rename may still arrive after it, so one sample
# of zero proves nothing.
DRAIN_ZEROS = 5
LOCK_TIMEOUT_S = 10.0
# More than a start of many workers writes; what is shown of them is far less.
JOURNAL_LINES = 5000


@dataclass
class Outcome:
    """What a switch did; a module returns it as it is."""

    changed: bool = False
    slot_from: str = ""
    slot_to: str = ""
    actions: List[str] = field(default_factory=list)
    seconds_to_ready: float = 0.0
    seconds_to_drain: float = 0.0
    seconds_to_stopped: float = 0.0
    connections_drained: int = 0
    connections_cut: int = 0

    def did(self, action: str) -> None:
        self.changed = True
        self.actions.append(action)


@dataclass(frozen=True)
class Clock:
    """Monotonic time and sleep, in seconds: a wrong wall clock changes nothing."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def patience_s(layout: Layout) -> float:
    """Return for how long to wait for another switch to end (in seconds).

    A recycle by itself may be draining.
    """
    return max(history.longest_switch_s(layout), LOCK_TIMEOUT_S)


class Switch:
    """One service on this host, and the operations on its slots."""

    def __init__(
        self,
        layout: Layout,
        systemd: Systemd,
        clock: Optional[Clock] = None,
        proc_net_unix: Path = Path("/proc/net/unix"),
        patience_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        self._layout = layout
        self._systemd = systemd
        self._clock = clock or Clock()
        self._proc_net_unix = proc_net_unix
        self._patience_s = patience_s
        self._held = False

    def would(self, plan: Plan, *, anew: bool = False, final: bool = False) -> Outcome:
        """Tell what ``converge`` would do, changing nothing."""
        _refuse_foreign_name(self._layout)
        live = slots.live_slot(self._layout)
        on_trial = self._tries(live, plan, anew=anew, final=final)
        if live and not anew and self._can_stay(live, plan):
            outcome = Outcome(slot_from=live, slot_to=live)
            for action in self._repairs(live, plan, on_trial=on_trial):
                outcome.did(action)
            return outcome
        outcome = Outcome(slot_from=live or "", slot_to=_target(live))
        outcome.did("switch")
        return outcome

    def converge(
        self,
        plan: Plan,
        *,
        anew: bool = False,
        patience_s: int = 0,
        final: bool = False,
        on_trial: bool = False,
    ) -> Outcome:
        """Make ``plan`` the live slot and the other one stopped.

        ``anew`` switches even if the live slot is what is asked for. ``patience_s``
        is how long the old slot may drain if the plan gives it less. While a trial is
        under way, the old slot goes on to run, and a reboot comes back to it, unless
        this is ``final``. Raises KeepaliveError, with the live slot untouched, when
        another switch is under way, or this was to be ``on_trial`` and none is, and
        NotReadyError when the new slot does not become ready.
        """
        _refuse_foreign_name(self._layout)
        _gid(plan.socket_group)
        with self.exclusive():
            if on_trial and trial.under_way(self._layout) is None:
                raise KeepaliveError(
                    "the trial that was begun has ended before the switch, which takes "
                    "too long for it; raise fastapi_service_confirm_window_s"
                )
            live = slots.live_slot(self._layout)
            on_trial = self._tries(live, plan, anew=anew, final=final)
            if live and not anew and self._can_stay(live, plan):
                history.note_stay(self._layout, plan)
                return self._repair(live, plan, on_trial=on_trial)
            outcome = Outcome(slot_from=live or "", slot_to=_target(live))
            if not anew and self._is_warm(outcome.slot_to, plan):
                history.note_switch(self._layout, plan)
            else:
                self._start_other(live, plan, outcome)
            self._flip(plan, patience_s, outcome, on_trial=on_trial)
            return outcome

    def begin_trial(self, back_to: str, window_s: int) -> None:
        """Have the host go back to the deployment ``back_to`` in so many seconds."""
        trial.begin(self._layout, self._systemd, back_to, window_s, self._clock.now())

    def end_trial(self) -> None:
        """Have nothing go back by itself any more."""
        trial.end(self._layout, self._systemd)

    def now_s(self) -> float:
        """Return the monotonic time (in seconds)."""
        return self._clock.now()

    def is_up(self) -> bool:
        """Tell whether the live slot's units run."""
        live = slots.live_slot(self._layout)
        return live is not None and self._runs(live)

    def _runs(self, slot: str) -> bool:
        units = self._layout.units(slot)
        return all(self._systemd.is_active(unit) for unit in units)

    def keep(self) -> None:
        """Have a reboot come back to what is live."""
        live = slots.live_slot(self._layout)
        known = history.live_entry(self._layout)
        if live and known:
            self._promote(live, known.deployment.plan, lasts=True)

    def remove(self, drain_timeout_s: int, *, dry_run: bool) -> Outcome:
        """Stop both slots and remove their files. Nothing there: no change."""
        layout = self._layout
        outcome = Outcome(slot_from=slots.live_slot(layout) or "")
        if not slots.has_traces(layout):
            return outcome
        outcome.did("remove")
        if dry_run:
            return outcome
        with self.exclusive():
            self.end_trial()
            for slot in slots.SLOTS:
                self._retire(slot, drain_timeout_s, outcome)
                slots.remove_slot(layout, slot)
            self._remove_shared()
            self._systemd.reload_units()
        return outcome

    def _start_other(self, live: Optional[str], plan: Plan, outcome: Outcome) -> None:
        """Write and start the slot that is not live, and wait until it is ready."""
        target = outcome.slot_to
        if live:
            # An interrupted switch, or a trial, may have left the next boot to the
            # slot that is about to be taken down.
            off = [
                path.name
                for path in self._layout.unit_files(live)
                if path.exists() and not self._systemd.is_enabled(path.name)
            ]
            if off:
                self._systemd.act("enable", off)
            self._record(live, self._group() or plan.socket_group)
        self._retire(target, plan.drain_timeout_s, outcome)
        cursor = self._systemd.journal_cursor()
        try:
            self._start(target, plan)
            outcome.seconds_to_ready = self._wait_ready(target, plan, cursor)
            history.note_switch(self._layout, plan)
        except BaseException as error:
            # Nothing points at the new slot yet: killing it loses nothing, and
            # one that hangs would take its whole TimeoutStopSec to stop.
            self._systemd.kill(self._layout.service_unit(target))
            self._stop(target)
            if isinstance(error, NotReadyError):
                # A full disk must not hide why the slot failed.
                with contextlib.suppress(OSError):
                    reason = str(error).partition("\n")[0]
                    history.note_failure(self._layout, plan, reason)
            raise

    def _flip(
        self, plan: Plan, patience_s: int, outcome: Outcome, *, on_trial: bool
    ) -> None:
        """Send new connections to the slot that is ready; stop the other one.

        On trial, the other one is the way back, and runs on.
        """
        self._promote(outcome.slot_to, plan, lasts=not on_trial)
        outcome.did("switch")
        if outcome.slot_from and not on_trial:
            flipped = self._clock.now()
            drain_s = max(plan.drain_timeout_s, patience_s)
            self._retire(outcome.slot_from, drain_s, outcome)
            outcome.seconds_to_stopped = round(self._clock.now() - flipped, 3)

    def _is_warm(self, slot: str, plan: Plan) -> bool:
        """Tell whether a slot that is not live runs what is asked for, and answers."""
        layout = self._layout
        if slots.read_slot(layout, slot) != plan.files:
            return False
        if not self._runs(slot):
            return False
        if not layout.socket(slot).is_socket():
            return False
        patience_s = min(plan.start_timeout_s, WARM_TIMEOUT_S)
        return not ask_socket(str(layout.socket(slot)), plan.probe, patience_s)

    def _tries(
        self, live: Optional[str], plan: Plan, *, anew: bool, final: bool
    ) -> bool:
        """Tell whether a switch to the plan is on trial.

        The way back from a trial is not. Raises BusyError if something else is on
        trial already, for the switch would cost the way back from that.
        """
        now = trial.under_way(self._layout)
        back = history.entry_by_key(self._layout, now.back_to) if now else None
        if live is None or final or back is None:
            return False
        if back.deployment.plan.files == plan.files:
            return False
        files = slots.read_slot(self._layout, live)
        if files is None or files == back.deployment.plan.files:
            return True
        if files == plan.files and not anew:
            return True
        raise BusyError(
            "release {0} is on trial on this host, and the other slot is the way back "
            "from it; confirm it (playbooks/confirm.yml) or go back "
            "(playbooks/rollback.yml) first".format(files.release.strip())
        )

    def _can_stay(self, live: str, plan: Plan) -> bool:
        """Tell whether the live slot is what is asked for, and has its socket.

        Of its two names one can be made anew from the other. Without both, a running
        service cannot be given a new socket, and still answers the connections that
        it has: the other slot takes over.
        """
        if slots.read_slot(self._layout, live) != plan.files:
            return False
        units = self._layout.units(live)
        stopped = not any(self._systemd.is_active(unit) for unit in units)
        names = self._layout.socket_names(live)
        return stopped or any(name.is_socket() for name in names)

    def _repairs(self, live: str, plan: Plan, *, on_trial: bool) -> Iterator[str]:
        """Yield what an interrupted switch, a crash or a hand left undone."""
        layout, systemd = self._layout, self._systemd
        if not self._runs(live):
            yield "start"
        elif not all(each.is_socket() for each in layout.socket_names(live)):
            yield "link"
        linked = slots.links_to(layout, live) and self._group() == plan.socket_group
        if not linked or not (on_trial or self._lasts(live, plan)):
            yield "promote"
        if on_trial:
            return
        idle = layout.units(slots.other(live))
        if any(systemd.is_active(unit) or systemd.is_enabled(unit) for unit in idle):
            yield "retire"

    def _lasts(self, live: str, plan: Plan) -> bool:
        """Tell whether a reboot comes back to the live slot."""
        path = self._layout.tmpfiles
        record = slots.boot_record(self._layout, live, plan.socket_group)
        recorded = path.exists() and path.read_text() == record
        units = self._layout.units(live)
        return recorded and all(self._systemd.is_enabled(unit) for unit in units)

    def _repair(self, live: str, plan: Plan, *, on_trial: bool) -> Outcome:
        outcome = Outcome(slot_from=live, slot_to=live)
        repairs = list(self._repairs(live, plan, on_trial=on_trial))
        cursor = self._systemd.journal_cursor() if repairs else ""
        if "start" in repairs:
            self._start(live, plan)
            outcome.seconds_to_ready = self._wait_ready(live, plan, cursor)
        if "link" in repairs:
            self._make_socket_dirs(plan.socket_group)
            slots.link_socket(self._layout, live)
        if "promote" in repairs:
            self._promote(live, plan, lasts=not on_trial)
        for action in repairs:
            outcome.did(action)
        if "retire" in repairs:
            self._retire(slots.other(live), plan.drain_timeout_s, outcome)
        return outcome

    def _start(self, slot: str, plan: Plan) -> None:
        layout = self._layout
        self._make_socket_dirs(plan.socket_group)
        slots.write_slot(layout, slot, plan.files)
        self._systemd.reload_units()
        self._systemd.forget_failures(layout.units(slot))
        self._systemd.act("start", [layout.socket_unit(slot)])
        self._systemd.act("start", [layout.service_unit(slot)], "--no-block")

    def _make_socket_dirs(self, group: str) -> None:
        """Make them if they are missing; those that are there nginx may be using."""
        for folder in self._layout.socket_dirs:
            if not folder.is_dir():
                folder.mkdir(parents=True, mode=0o750)
                os.chown(folder, 0, _gid(group))

    def _group(self) -> str:
        """Return the group that reaches the sockets now; empty if that is unclear."""
        try:
            groups = {each.stat().st_gid for each in self._layout.socket_dirs}
            return grp.getgrgid(groups.pop()).gr_name if len(groups) == 1 else ""
        except (FileNotFoundError, KeyError):
            return ""

    def _wait_ready(self, slot: str, plan: Plan, cursor: str) -> float:
        """Probe until the slot answers as expected; return the seconds taken."""
        begun = self._clock.now()
        reason, patience_s = "", PROBE_TIMEOUT_S
        while True:
            self._refuse_crashed(slot, cursor)
            asked = self._clock.now()
            left = begun + plan.start_timeout_s - asked
            if left <= 0:
                break
            socket = str(self._layout.socket(slot))
            reason = ask_socket(socket, plan.probe, min(left, patience_s))
            if not reason:
                self._refuse_crashed(slot, cursor)
                return round(self._clock.now() - begun, 3)
            # Short at first, to see a crash soon; a slow probe is given time.
            patience_s = max(patience_s, 2 * (self._clock.now() - asked))
            self._clock.sleep(PROBE_INTERVAL_S)
        raise self._not_ready(
            slot,
            cursor,
            "did not become ready within {limit} s (fastapi_service_start_timeout_s): "
            "GET {path} gave {reason}".format(
                limit=plan.start_timeout_s,
                path=plan.probe.path,
                reason=reason or "no answer",
            ),
            "Check fastapi_service_probe_path and fastapi_service_probe_status, or "
            "mend the application.",
        )

    def _refuse_crashed(self, slot: str, cursor: str) -> None:
        """Raise as soon as systemd has seen the slot's service end by itself."""
        unit = self._layout.service_unit(slot)
        state = self._systemd.show(unit, "NRestarts", "Result")
        if state["Result"] in ("", "success") and state["NRestarts"] in ("", "0"):
            return
        raise self._not_ready(
            slot,
            cursor,
            "ended while it started (systemd calls it {0})".format(state["Result"]),
            "Mend the application, or the variable that its log points to, and run "
            "again.",
        )

    def _not_ready(
        self, slot: str, cursor: str, what: str, advice: str
    ) -> NotReadyError:
        """Return the error that tells why, from the slot's own log."""
        unit = self._layout.service_unit(slot)
        log = self._systemd.journal_since(unit, cursor, JOURNAL_LINES)
        standing = "The live slot is untouched"
        if slots.live_slot(self._layout) == slot:
            standing = "It is the live slot, which was not running as it should"
        return NotReadyError(
            "{unit} {what}{causes}. {standing}. {advice}\n"
            "Its log (journalctl -u {unit}):\n{log}".format(
                unit=unit,
                what=what,
                causes="".join("; " + each for each in start_log.causes(log)),
                standing=standing,
                advice=advice,
                log=start_log.excerpt(log),
            )
        )

    def _promote(self, slot: str, plan: Plan, *, lasts: bool) -> None:
        """Send new connections to ``slot``, now and, if it ``lasts``, after a reboot.

        What the next boot finds is written before the rename: a host that
        loses power between the two comes back on a slot that has been proven.
        """
        if lasts:
            self._systemd.act("enable", self._layout.units(slot))
            self._record(slot, plan.socket_group)
        self._make_socket_dirs(plan.socket_group)
        for folder in self._layout.socket_dirs:
            os.chown(folder, 0, _gid(plan.socket_group))
        slots.point_live_at(self._layout, slot)

    def _record(self, slot: str, group: str) -> None:
        record = slots.boot_record(self._layout, slot, group)
        slots.write_atomically(self._layout.tmpfiles, record, 0o644)

    def _retire(self, slot: str, drain_timeout_s: int, outcome: Outcome) -> None:
        """Wait until nginx holds no connection to ``slot``, then stop it."""
        if any(self._systemd.is_active(unit) for unit in self._layout.units(slot)):
            self._drain(slot, drain_timeout_s, outcome)
        self._stop(slot)

    def _drain(self, slot: str, drain_timeout_s: int, outcome: Outcome) -> None:
        begun = self._clock.now()
        seen = most = self._connections(slot)
        zeros = 0
        while zeros < DRAIN_ZEROS and self._clock.now() - begun < drain_timeout_s:
            self._clock.sleep(DRAIN_INTERVAL_S)
            seen = self._connections(slot)
            most = max(most, seen)
            zeros = zeros + 1 if seen == 0 else 0
        outcome.connections_cut += seen
        outcome.connections_drained += most - seen
        outcome.seconds_to_drain = round(self._clock.now() - begun, 3)

    def _connections(self, slot: str) -> int:
        text = self._proc_net_unix.read_text(encoding="utf-8", errors="replace")
        path = str(self._layout.socket(slot))
        return unix_connections.count_connections(text, path)

    def _stop(self, slot: str) -> None:
        """Stop a slot and keep it from starting at boot."""
        units = self._layout.units(slot)
        states = {
            unit: self._systemd.show(unit, "LoadState", "ActiveState") for unit in units
        }
        loaded = [unit for unit in units if states[unit]["LoadState"] == "loaded"]
        # One whose file somebody has removed may run still.
        known = [
            unit
            for unit in units
            if unit in loaded or states[unit]["ActiveState"] == "active"
        ]
        if known:
            self._systemd.act("stop", known)
        if loaded:
            self._systemd.act("disable", loaded)

    def _remove_shared(self) -> None:
        layout = self._layout
        history.forget_all(layout)
        for path in (*layout.links, layout.tmpfiles):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        for folder in (*layout.socket_dirs, layout.config_dir):
            # What somebody else put there is theirs to remove.
            with contextlib.suppress(OSError):
                folder.rmdir()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the service's lock; raise KeepaliveError if another one keeps it."""
        if self._held:
            yield
            return
        path, clock = self._layout.lock, self._clock
        held = (
            "another switch of {0} is under way on this host ({1} is held); wait for "
            "it to end and run again".format(self._layout.name, path)
        )
        with exclusive(
            path, held, timeout_s=self._patience_s, now=clock.now, sleep=clock.sleep
        ):
            self._held = True
            try:
                yield
            finally:
                self._held = False


def _target(live: Optional[str]) -> str:
    return slots.other(live) if live else slots.SLOTS[0]


def _refuse_foreign_name(layout: Layout) -> None:
    """Refuse a service name whose paths are another program's."""
    foreign = slots.foreign_folders(layout)
    if foreign:
        raise KeepaliveError(
            "{0} exists and is not of a service of this collection; choose another "
            "fastapi_service_name than {1!r}".format(foreign[0], layout.name)
        )


def _gid(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise KeepaliveError(
            "there is no group {0!r} on this host, which is to reach the service's "
            "sockets; install nginx first, or correct nginx_proxy_user".format(group)
        ) from None


def as_result(outcome: Outcome) -> Dict[str, object]:
    """Return the outcome as a module's results."""
    return dict(vars(outcome))
