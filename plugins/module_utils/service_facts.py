# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service's host knows of it: its slots, its releases and its record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict

from ansible_collections.keepalive.fastapi.plugins.module_utils import (
    history,
    trial,
    unix_connections,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    CONFIG_DIR,
    settled_sha256,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release import (
    list_releases,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    SLOTS,
    Layout,
    gunicorn_seconds,
    live_slot,
    read_slot,
    site_seconds,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd


def slot_states(layout: Layout, systemd: Systemd) -> Dict[str, Dict[str, Any]]:
    """Return the state of both slots."""
    sockets = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    states = {}
    for slot in SLOTS:
        files = read_slot(layout, slot)
        unit, path = layout.service_unit(slot), str(layout.socket(slot))
        states[slot] = {
            "release": files.release.strip() if files else "",
            "app_keepalive_s": gunicorn_seconds(files, "keepalive") if files else 0,
            "active_state": systemd.show(unit, "ActiveState")["ActiveState"],
            "connections": unix_connections.count_connections(sockets, path),
        }
    return states


def trial_facts(layout: Layout) -> Dict[str, Any]:
    """Return what the host goes back to, and when; empty without a trial."""
    now = trial.under_way(layout)
    if now is None:
        return {}
    back = history.entry_by_key(layout, now.back_to)
    return {
        "back_to_release": back.release if back else "",
        "back_to_deployment": now.back_to,
        "seconds_left": now.seconds_left(time.monotonic()),
    }


def service_facts(
    layout: Layout, systemd: Systemd, releases_dir: Path
) -> Dict[str, Any]:
    """Return what the service's slots and site are, and its releases."""
    live, states = live_slot(layout) or "", slot_states(layout, systemd)
    known = history.in_force(layout)
    return {
        "live_slot": live,
        "live_release": states[live]["release"] if live else "",
        "live_deployment": known.deployment.key if known else "",
        "live_is_good": history.is_confirmed(layout),
        "trial": trial_facts(layout),
        "slots": states,
        "releases": [release.id for release in list_releases(releases_dir)],
        "history": [
            {"release": each.release, "verdict": each.verdict, "reason": each.reason}
            for each in history.entries(layout)
        ],
        "site": str(layout.site.relative_to(CONFIG_DIR)),
        "site_sha256": settled_sha256(layout.site),
        "upstream_keepalive_time_s": site_seconds(layout.site, "keepalive_time"),
        # The upstream stands before the server, which has one for its clients.
        "upstream_keepalive_s": site_seconds(layout.site, "keepalive_timeout"),
    }
