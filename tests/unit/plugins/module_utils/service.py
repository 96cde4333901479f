# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that is deployed on a host that is a folder, as the role does it."""

from __future__ import annotations

from dataclasses import replace
from typing import List

from ansible_collections.keepalive.fastapi.plugins.module_utils import history, slots
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Host as Operated,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Switch,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.host import (
    Host,
    PowerLossError,
    plan,
)

RELEASES = ["one", "two", "three"]


class Service:
    """The service, its nginx site, and what the role does to deploy it."""

    def __init__(self, host: Host, switch: Switch) -> None:
        self.host = host
        self.switch = switch
        self.steps: List[str] = []
        self.releases = list(RELEASES)
        self.refused = ""
        self.interrupted = False

    @property
    def operated(self) -> Operated:
        return Operated(self.host.layout, self.switch, self, self.releases)

    def check(self, text: str) -> None:
        if text == self.refused:
            raise KeepaliveError("nginx would not take it")

    def put(self, text: str) -> None:
        if self.interrupted:
            raise PowerLossError
        self.steps.append(
            "site {0} with {1} live".format(text, slots.live_slot(self.host.layout))
        )
        self.host.layout.site.parent.mkdir(parents=True, exist_ok=True)
        self.host.layout.site.write_text(text)

    def deploy(self, release: str, site: str = "site", keepalive_s: int = 30) -> None:
        self.switch_to(release, site, keepalive_s)
        history.confirm(self.host.layout)
        self.steps.clear()

    def switch_to(
        self, release: str, site: str = "site", keepalive_s: int = 30
    ) -> None:
        wanted = plan(release)
        text = "keepalive = {0}\n".format(keepalive_s)
        files = replace(wanted.files, gunicorn_config=text)
        self.switch.converge(replace(wanted, files=files))
        self.put(site)

    @property
    def live(self) -> str:
        layout = self.host.layout
        live = slots.live_slot(layout)
        assert live
        files = slots.read_slot(layout, live)
        assert files
        assert self.host.running() == sorted(layout.units(live))
        return files.release.strip()

    @property
    def verdicts(self) -> List[str]:
        return [
            "{0} {1}".format(each.release, each.verdict)
            for each in history.entries(self.host.layout)
        ]
