# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say what load to send, of each module that sends some."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ansible_collections.keepalive.fastapi.plugins.module_utils.answers import (
    Request,
    ask_expecting,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.benchmark_run import (
    Load,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd
from ansible_collections.keepalive.fastapi.plugins.module_utils.witness import (
    Witnesses,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.wrk import WrkPlan

_PLAN: Dict[str, Dict[str, Any]] = {
    "url": {"type": "str", "required": True},
    "method": {"type": "str", "default": "GET"},
    "body": {"type": "str", "default": ""},
    "headers": {"type": "dict", "default": {}},
    "expected_status": {"type": "int", "default": 200},
    "connections": {"type": "int", "default": 100},
    "threads": {"type": "int", "default": 1},
    "timeout_s": {"type": "int", "default": 10},
    "keepalive": {"type": "bool", "default": True},
    "cpus": {"type": "str", "default": ""},
}
_WITNESSES: Dict[str, Dict[str, Any]] = {
    "nginx_status_url": {"type": "str", "default": ""},
    "app_socket": {"type": "str", "default": ""},
    "expect_upstream": {
        "type": "str",
        "choices": ["kept", "new", "any"],
        "default": "any",
    },
}
LOAD_OPTIONS: Dict[str, Dict[str, Any]] = {
    **_PLAN,
    **_WITNESSES,
    "app_unit": {"type": "str", "default": ""},
    "every_status": {"type": "bool", "default": False},
}


def plan_of(given: Mapping[str, Any], duration_s: int) -> WrkPlan:
    """Return what wrk shall do. Raises KeepaliveError for what it would refuse."""
    options = {name: given[name] for name in _PLAN}
    options["headers"] = {k: str(v) for k, v in given["headers"].items()}
    return WrkPlan(duration_s=duration_s, **options)


def load_of(given: Mapping[str, Any], plan: WrkPlan, systemd: Systemd) -> Load:
    """Return the load with its witnesses. Raises KeepaliveError for a unit at rest."""
    return Load(
        plan,
        _main_pid(given["app_unit"], systemd),
        Witnesses(**{name: given[name] for name in _WITNESSES}),
    )


def _main_pid(unit: str, systemd: Systemd) -> int:
    if not unit:
        return 0
    pid = int(systemd.show(unit, "MainPID")["MainPID"] or 0)
    if pid == 0:
        raise KeepaliveError(
            "app_unit: {0} does not run on this host, so it has no CPU time; name the "
            "live slot's service (fastapi_service_info tells it)".format(unit)
        )
    return pid


def answer_length(plan: WrkPlan, *, every_status: bool) -> Optional[int]:
    """Ask as the load will; return the length of all answers, None to count them."""
    request = Request(
        plan.url, plan.method, plan.all_headers, plan.body, plan.timeout_s
    )
    length = ask_expecting(request, plan.expected_status)
    return None if every_status else length
