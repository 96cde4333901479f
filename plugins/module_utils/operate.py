# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's verbs on a service that is deployed: recycle it, try it, or go back.

All need nothing but what the host itself has recorded.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Dict, Iterator, Optional, Protocol, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils import history, trial
from ansible_collections.keepalive.fastapi.plugins.module_utils.deployment import (
    Deployment,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.history import Entry
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    Host as Nginx,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    Request,
    configure,
    find_nginx,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    CONFIG_DIR,
    USUAL_MODE,
    ConfigFile,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release import (
    list_releases,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    LOCK_TIMEOUT_S,
    Outcome,
    Switch,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    diff_entry,
    differences,
    gunicorn_seconds,
    live_slot,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd

_RELOAD_TIMEOUT_S = 30


@dataclass(frozen=True)
class Change:
    """What was live, and what is live now."""

    before: Deployment
    after: Deployment


def all_differences(change: Change) -> Iterator[Dict[str, str]]:
    """Yield Ansible's diff entries of the slot's files and the nginx site."""
    before, after = change.before, change.after
    yield from differences(before.plan.files, after.plan.files)
    if before.site != after.site:
        yield diff_entry("nginx site", before.site, after.site)


class Site(Protocol):
    """The place of the service's nginx site."""

    def check(self, text: str) -> None:
        """Raise KeepaliveError if nginx would not take this text; empty for none."""

    def put(self, text: str) -> None:
        """Put the text in place and reload nginx; empty takes the site away."""


class NginxSite:
    """The site in nginx's configuration on this host."""

    def __init__(self, layout: Layout, run: Runner) -> None:
        self._path = str(layout.site.relative_to(CONFIG_DIR))
        self._run = run

    def check(self, text: str) -> None:
        self._configure(text, check_mode=True)

    def put(self, text: str) -> None:
        self._configure(text, check_mode=False)

    def _configure(self, text: str, *, check_mode: bool) -> None:
        file = ConfigFile(self._path, text.encode("utf-8"), USUAL_MODE)
        request = Request(
            files=[file] if text else [],
            absent=[] if text else [self._path],
            config_dir=CONFIG_DIR,
            reload=True,
            reload_timeout_s=_RELOAD_TIMEOUT_S,
        )
        nginx = Nginx(nginx=find_nginx("nginx"), scratch_dir=gettempdir())
        configure(request, nginx, self._run, check_mode=check_mode)


@dataclass(frozen=True)
class Host:
    """The service on this host, and how to change it."""

    layout: Layout
    switch: Switch
    site: Site
    releases: Sequence[str]


def host_of(
    layout: Layout, releases_dir: Path, run: Runner, patience_s: float = LOCK_TIMEOUT_S
) -> Host:
    """Return the service as this host has it.

    ``patience_s`` is how long to wait for another switch to end.
    """
    return Host(
        layout=layout,
        switch=Switch(layout, Systemd(run), patience_s=patience_s),
        site=NginxSite(layout, run),
        releases=[release.id for release in list_releases(releases_dir)],
    )


def running(layout: Layout) -> Entry:
    """Return what is live. Raises KeepaliveError if no switch has recorded it."""
    known = history.in_force(layout)
    if known is None:
        raise KeepaliveError(
            "{0} has no live slot on this host that is recorded; deploy it with "
            "site.yml first".format(layout.name)
        )
    return known


def recycle(host: Host, *, dry_run: bool) -> Tuple[Change, Outcome]:
    """Replace the live slot's processes by new ones of the same deployment."""
    if dry_run:
        now = running(host.layout).deployment
        return Change(now, now), host.switch.would(now.plan, anew=True)
    with host.switch.exclusive():
        now = running(host.layout).deployment
        return Change(now, now), host.switch.converge(now.plan, anew=True)


@dataclass(frozen=True)
class Goal:
    """Where a rollback goes: to the last good deployment, unless it is said here.

    ``release`` is an identifier; ``deployment`` and ``unless`` are keys of deployments.
    Where the one is live already, or the other, nothing is done.
    """

    release: str = ""
    deployment: str = ""
    unless: str = ""


def roll_back(host: Host, goal: Goal, *, dry_run: bool) -> Tuple[Change, Outcome]:
    """Go back to an earlier deployment, with its site.

    Finishes a rollback that was interrupted, and ends a trial. What is left is marked
    as bad. Raises KeepaliveError if there is nothing to go back to, nginx would not
    take the site, or the slot does not become ready; what is live then stays so.
    """
    with contextlib.nullcontext() if dry_run else host.switch.exclusive():
        now = running(host.layout)
        if now.deployment.key in (goal.unless, goal.deployment):
            return stays(host, now) if dry_run else _settle(host, now, goal)
        then = _way_back(host, now, goal)
        if dry_run:
            outcome = host.switch.would(then.deployment.plan, final=True)
        else:
            outcome = _leave(host, now, then)
            host.switch.end_trial()
    if then.deployment.site != now.deployment.site:
        outcome.did("site")
    return Change(now.deployment, then.deployment), outcome


def stays(host: Host, now: Entry) -> Tuple[Change, Outcome]:
    """Return that what is live stays so."""
    live = live_slot(host.layout) or ""
    return _unchanged(now), Outcome(False, live, live)


def _unchanged(now: Entry) -> Change:
    return Change(now.deployment, now.deployment)


def _settle(host: Host, now: Entry, goal: Goal) -> Tuple[Change, Outcome]:
    """Stay with what is live, and end a trial that would leave it."""
    tried = trial.under_way(host.layout)
    if tried and tried.back_to == now.deployment.key:
        host.switch.end_trial()
    elif tried and goal.deployment == now.deployment.key:
        # What comes back to it has been tried itself, from elsewhere.
        host.switch.keep()
        host.switch.end_trial()
        return _unchanged(now), host.switch.converge(now.deployment.plan, final=True)
    return stays(host, now)


def _way_back(host: Host, now: Entry, goal: Goal) -> Entry:
    """Return what to go back to, which nginx would serve."""
    then = _begun(host.layout, now)
    if then is None or not _meets(goal, then):
        known, release = history.entries(host.layout), goal.release
        if goal.deployment:
            known = [each for each in known if each.deployment.key == goal.deployment]
            # By its name, so that its verdict does not count.
            release = known[0].release if known else ""
        then = history.choose(known, now.deployment.key, host.releases, release)
    if then.deployment.site != now.deployment.site:
        host.site.check(then.deployment.site)
    return then


def _begun(layout: Layout, now: Entry) -> Optional[Entry]:
    """Return where a trial goes back to, or an interrupted rollback was going."""
    tried = trial.under_way(layout)
    then = history.entry_by_key(layout, tried.back_to) if tried else None
    if then is None or then.deployment.key == now.deployment.key:
        return history.unfinished_rollback(layout)
    return then


def _meets(goal: Goal, then: Entry) -> bool:
    if goal.deployment:
        return then.deployment.key == goal.deployment
    return goal.release in ("", then.release)


def _leave(host: Host, now: Entry, then: Entry) -> Outcome:
    """Go back, with what is left marked before anything is done.

    Killed at any point, the next rollback goes on to the same deployment.
    """
    layout = host.layout
    moves = now.deployment.plan.files != then.deployment.plan.files
    reason = "left by a rollback to {0}".format(then.release)
    history.begin_rollback(layout, then.deployment.key)
    if moves:
        history.record(layout, now.deployment, history.BAD, reason)
    try:
        outcome = _go_back(host, now.deployment, then.deployment)
    except BaseException:
        if moves:
            _stay(host, now)
        raise
    if now.deployment.key != then.deployment.key:
        if not moves:
            history.record(layout, now.deployment, history.BAD, reason)
        good = then.verdict == history.GOOD
        verdict = history.GOOD if good else history.UNPROVEN
        history.record(layout, then.deployment, verdict)
    history.end_rollback(layout)
    return outcome


def _stay(host: Host, now: Entry) -> None:
    """Undo what a rollback has begun, if what it was to leave is live still."""
    live = history.live_entry(host.layout)
    if live is None or live.deployment.plan.files != now.deployment.plan.files:
        return
    if history.site_text(host.layout) != now.deployment.site:
        host.site.put(now.deployment.site)
    history.record(host.layout, now.deployment, now.verdict, now.reason)
    history.end_rollback(host.layout)


def _go_back(host: Host, now: Deployment, then: Deployment) -> Outcome:
    """Switch, and put the site that goes with it in place, in the order that is safe.

    nginx must close an idle connection first: it learns of an application that will
    close sooner before that one serves, and of any other afterwards.
    """
    # What is left has connections by its own budgets.
    patience_s = now.plan.drain_timeout_s
    site_first = _app_keepalive_s(then) < _app_keepalive_s(now)
    if then.site != now.site and site_first:
        host.site.put(then.site)
    outcome = host.switch.converge(then.plan, patience_s=patience_s, final=True)
    if then.site != now.site and not site_first:
        host.site.put(then.site)
    return outcome


def _app_keepalive_s(deployment: Deployment) -> int:
    return gunicorn_seconds(deployment.plan.files, "keepalive")
