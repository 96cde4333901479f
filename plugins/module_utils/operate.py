# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator's verbs on a service that is deployed: recycle it, or go back.

Both need nothing but what the host itself has recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from typing import Callable, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils import history
from ansible_collections.keepalive.fastapi.plugins.module_utils.deployment import (
    Deployment,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    Host as Nginx,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    Request,
    configure,
    find_nginx,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    ConfigFile,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Outcome,
    Switch,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    gunicorn_seconds,
    live_slot,
    read_slot,
)

_NGINX_DIR = Path("/etc/nginx")
_SITE_MODE = 0o644
_RELOAD_TIMEOUT_S = 30

# Puts a text in the place of the service's nginx site and reloads nginx.
PutSite = Callable[[str], None]


@dataclass(frozen=True)
class Host:
    """The service on this host, and how to change it."""

    layout: Layout
    switch: Switch
    put_site: PutSite
    releases: Sequence[str]


def site_writer(layout: Layout, run: Runner) -> PutSite:
    """Return what puts a site in place if nginx accepts it, and reloads nginx."""

    def put(text: str) -> None:
        path = str(layout.site.relative_to(_NGINX_DIR))
        request = Request(
            files=[ConfigFile(path, text.encode("utf-8"), _SITE_MODE)],
            absent=[],
            config_dir=_NGINX_DIR,
            reload=True,
            reload_timeout_s=_RELOAD_TIMEOUT_S,
        )
        nginx = Nginx(nginx=find_nginx("nginx"), scratch_dir=gettempdir())
        configure(request, nginx, run)

    return put


def running(layout: Layout) -> Deployment:
    """Return what is live. Raises KeepaliveError if no switch has recorded it."""
    live = live_slot(layout)
    files = read_slot(layout, live) if live else None
    known = history.entry_of(layout, files) if files else None
    if known is None:
        raise KeepaliveError(
            "name: {0} has no live slot on this host that is recorded; deploy it with "
            "site.yml first".format(layout.name)
        )
    return replace(known.deployment, site=history.site_text(layout))


def recycle(host: Host, *, dry_run: bool) -> Outcome:
    """Replace the live slot's processes by new ones of the same release."""
    plan = running(host.layout).plan
    if dry_run:
        return host.switch.would(plan, anew=True)
    return host.switch.converge(plan, anew=True)


def roll_back(host: Host, wanted: str, *, dry_run: bool) -> Tuple[Deployment, Outcome]:
    """Go back to the release ``wanted``, or the last good one; return what it is.

    What was left is marked as bad. Raises KeepaliveError if there is nothing to go
    back to, or the old release does not become ready, which changes nothing.
    """
    now = running(host.layout)
    chosen = history.choose(
        history.entries(host.layout), now.key, host.releases, wanted
    ).deployment
    if dry_run:
        outcome = host.switch.would(chosen.plan)
    else:
        outcome = _go_back(host, now, chosen)
        reason = "left by a rollback to {0}".format(chosen.plan.release)
        history.record(host.layout, now, history.BAD, reason)
    if _other_site(now, chosen):
        outcome.did("site")
    return chosen, outcome


def _go_back(host: Host, now: Deployment, then: Deployment) -> Outcome:
    """Switch, and put the site that goes with it in place, in the order that is safe.

    nginx must close an idle connection first: it learns of an application that will
    close sooner before that one serves, and of any other afterwards.
    """
    # What is left has connections by its own budgets.
    patience_s = now.plan.drain_timeout_s
    if not _other_site(now, then):
        return host.switch.converge(then.plan, patience_s=patience_s)
    if _app_keepalive_s(then) >= _app_keepalive_s(now):
        outcome = host.switch.converge(then.plan, patience_s=patience_s)
        host.put_site(then.site)
        return outcome
    host.put_site(then.site)
    try:
        return host.switch.converge(then.plan, patience_s=patience_s)
    except KeepaliveError:
        host.put_site(now.site)
        raise


def _other_site(now: Deployment, then: Deployment) -> bool:
    return bool(then.site) and then.site != now.site


def _app_keepalive_s(deployment: Deployment) -> int:
    return gunicorn_seconds(deployment.plan.files, "keepalive")
