# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any, Dict

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms_app import (
    LISTENERS,
    app_command,
    app_properties,
    check_gunicorn,
    read_unit,
    socket_properties,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms_host import Wanted
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

UNIT = """[Unit]
Description=FastAPI service demo, slot %i
After=network.target

[Service]
Type=notify
User=demo
EnvironmentFile=/etc/demo/%i/environment
ExecStart="/srv/demo/releases/1/venv/bin/python" -m gunicorn --config /etc/demo/%i/g.py
Restart=always
CapabilityBoundingSet=
SystemCallFilter=@system-service
SystemCallFilter=~@privileged

[Install]
WantedBy=multi-user.target
"""


def test_the_live_slots_command_with_what_differs() -> None:
    unit = read_unit(UNIT, "blue")
    assert app_command(unit, {"workers": 4, LISTENERS: 1}) == [
        *("/srv/demo/releases/1/venv/bin/python", "-m", "gunicorn"),
        *("--config", "/etc/demo/blue/g.py", "--workers", "4"),
    ]


def test_the_sandbox_is_the_live_slots() -> None:
    got = app_properties(read_unit(UNIT, "blue"), "x", {LISTENERS: 2})
    assert got[:5] == [
        "User=demo",
        "EnvironmentFile=/etc/demo/blue/environment",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
    ]
    assert "ExecStopPost=+/bin/systemctl --no-block stop x.socket" in got
    assert "Environment=KEEPALIVE_LISTENERS_PER_WORKER=2" in got
    assert not [each for each in got if each.startswith(("Type", "Restart"))]


def test_its_socket_is_for_nginx_alone() -> None:
    got = socket_properties("unix:/run/x/app.sock", "www-data", 64)
    assert got[:4] == [
        "ListenStream=/run/x/app.sock",
        "SocketGroup=www-data",
        "SocketMode=0660",
        "Backlog=64",
    ]
    assert (
        socket_properties("127.0.0.1:8000", "x", 1)[0] == "ListenStream=127.0.0.1:8000"
    )


def test_a_unit_that_starts_nothing() -> None:
    with pytest.raises(KeepaliveError, match="no ExecStart"):
        read_unit("[Service]\nUser=demo\n", "blue")


@pytest.mark.parametrize(
    "options",
    [
        {"bind": "0.0.0.0:9000"},
        {"config": "/tmp/x.py"},
        {"workers": "many"},
        {"workers": True},
        {"worker-class": 1},
    ],
)
def test_options_that_an_arm_may_not_have(options: Dict[str, Any]) -> None:
    with pytest.raises(KeepaliveError, match="arms: gunicorn has"):
        check_gunicorn(options)


def test_options_that_it_may_have() -> None:
    check_gunicorn({"workers": 3, "keep-alive": "5", "worker-class": "asgi"})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "page", "tls": True}, "of kind page, which takes no"),
        ({"kind": "direct", "upstream_pool": 0}, "of kind direct, which takes no"),
        ({"kind": "site", "upstream_pool": -1}, "is below 0"),
        ({"kind": "site", "settings": {"srver": {}}}, "settings of x has srver"),
        ({"kind": "site", "settings": {"server": "y"}}, "settings of x has server"),
        ({"kind": "direct", "slot": "other"}, "x has an application of its own"),
    ],
)
def test_an_arm_that_cannot_be(wrong: Dict[str, Any], said: str) -> None:
    with pytest.raises(KeepaliveError, match=said):
        Wanted(name="x", **wrong)
