# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Iterator

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import slot_switch
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Clock,
    Switch,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.host import (
    PLAN,
    Host,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.service import (  # noqa: E501
    Service,
)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    # pytest's own folders may exceed what a socket's address holds.
    root = Path(mkdtemp(prefix="slots"))
    host = Host(Layout("shop", root))
    host.connect("blue", 0)
    monkeypatch.setattr(slot_switch, "ask_socket", host.ask)
    monkeypatch.setattr(
        os, "chown", lambda path, user, group: host.owners.update({path: (user, group)})
    )
    yield host
    shutil.rmtree(root)


@pytest.fixture
def switch(host: Host) -> Switch:
    clock = Clock(now=lambda: host.now, sleep=host.sleep)
    return Switch(host.layout, Systemd(host), clock, host.proc_net_unix)


@pytest.fixture
def service(host: Host, switch: Switch) -> Service:
    """Return a service that is deployed with release ``one``."""
    service = Service(host, switch)
    service.deploy("one")
    return service


@pytest.fixture
def live(host: Host, switch: Switch) -> Host:
    """Return a host on which blue is live with release ``one``."""
    switch.converge(PLAN)
    host.calls.clear()
    return host
