#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fastapi_slots
short_description: Switch a FastAPI service from one slot to the other
version_added: 0.1.0
description:
  - A service has two slots, blue and green, each a systemd service with a socket
    unit of its own. nginx connects to C(/run/NAME/live.sock), a symlink to the
    socket of the slot that is live. Should that be lost, it has a second way in
    C(/run/keepalive.NAME), where each socket has a second name.
  - Writes the idle slot, starts it, probes it over its own socket until it
    answers as expected, points each symlink at it by one rename, waits until
    nginx holds no connection to the old slot, and stops that.
  - A slot that does not become ready is stopped again; the live one is not touched.
  - While a trial is under way (M(keepalive.fastapi.fastapi_trial)), the old slot runs
    on, and a reboot comes back to it.
  - Finishes what an interrupted switch left undone, and restores what was
    stopped, disabled or removed by hand.
author: keepalive.fastapi contributors (@keepalive)
options:
  name:
    description: The service; 1 to 31 characters of a-z, 0-9 and C(-).
    type: str
    required: true
  state:
    description:
      - V(live) makes the files given here the live slot.
      - V(absent) drains and stops both slots and removes their files.
    type: str
    choices: [live, absent]
    default: live
  release:
    description: The release that the slot runs; recorded beside its files.
    type: str
  service_unit:
    description: Text of the slot's service unit; C(%i) is the slot.
    type: str
  socket_unit:
    description: Text of the slot's socket unit; C(%i) is the slot.
    type: str
  gunicorn_config:
    description: Text of the slot's Gunicorn configuration.
    type: str
  environment_file:
    description:
      - Text of the slot's environment file. It may hold secrets, so its values
        appear in no log and no diff.
    type: str
  socket_group:
    description: Group that may connect to the sockets, which is nginx's.
    type: str
    default: www-data
  probe_path:
    description: Path of the readiness probe.
    type: str
    default: /health
  probe_status:
    description: HTTP status that means ready.
    type: int
    default: 200
  probe_host:
    description: Host header of the readiness probe.
    type: str
    default: localhost
  probe_scheme:
    description: The scheme a visitor would use, sent as C(X-Forwarded-Proto).
    type: str
    choices: [http, https]
    default: http
  on_trial:
    description:
      - Fails unless a trial is under way, which has been begun for this switch; without
        one it would stay, though nobody has confirmed it.
    type: bool
    default: false
  start_timeout_s:
    description: How long a slot may take to become ready (in seconds).
    type: int
    default: 30
  drain_timeout_s:
    description:
      - How long to wait for the old slot's connections to end (in seconds).
        What is left then is closed by stopping the slot, and counted.
    type: int
    default: 60
attributes:
  check_mode:
    description: Tells what would be done, and changes nothing.
    support: full
  diff_mode:
    description: Shows how the new slot's files differ from the live slot's.
    support: full
  idempotent:
    description: The same files again change nothing.
    support: full
"""

EXAMPLES = r"""
- name: Take a service away
  keepalive.fastapi.fastapi_slots:
    name: shop
    state: absent

- name: Run a new release (the role fastapi_service renders these texts)
  keepalive.fastapi.fastapi_slots:
    name: shop
    release: 1f0c9a7d5be64e01
    service_unit: "{{ lookup('ansible.builtin.template', 'service.j2') }}"
    socket_unit: "{{ lookup('ansible.builtin.template', 'socket.j2') }}"
    gunicorn_config: "{{ lookup('ansible.builtin.template', 'gunicorn.conf.py.j2') }}"
    environment_file: ""
    probe_path: /health
"""

RETURN = r"""
slot_from:
  description: The slot that was live; empty before the first.
  returned: success
  type: str
  sample: blue
slot_to:
  description: The slot that is live now.
  returned: success
  type: str
  sample: green
actions:
  description:
    - What was done. V(switch), V(remove), or for a service that was to stay as it is
      what had to be mended, of V(start), V(link), V(promote) and V(retire).
  returned: success
  type: list
  elements: str
  sample: [switch]
seconds_to_ready:
  description: From starting the slot to its first expected answer (in seconds).
  returned: success
  type: float
  sample: 1.72
seconds_to_drain:
  description: From the rename to the last sample without a connection (in seconds).
  returned: success
  type: float
  sample: 5.2
seconds_to_stopped:
  description: From the rename until the old slot has stopped (in seconds).
  returned: success
  type: float
  sample: 5.4
connections_drained:
  description: Connections to the old slot that ended by themselves.
  returned: success
  type: int
  sample: 64
connections_cut:
  description: Connections still open when O(drain_timeout_s) had passed.
  returned: success
  type: int
  sample: 0
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils import history
from ansible_collections.keepalive.fastapi.plugins.module_utils.deployment import Plan
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import Probe
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Outcome,
    Switch,
    as_result,
    patience_s,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    SlotFiles,
    differences,
    live_slot,
    read_slot,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd

_TEXTS = (
    "release",
    "service_unit",
    "socket_unit",
    "gunicorn_config",
    "environment_file",
)

_ARGUMENTS: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["live", "absent"], "default": "live"},
    "release": {"type": "str"},
    "service_unit": {"type": "str"},
    "socket_unit": {"type": "str"},
    "gunicorn_config": {"type": "str"},
    "environment_file": {"type": "str", "no_log": True},
    "socket_group": {"type": "str", "default": "www-data"},
    "probe_path": {"type": "str", "default": "/health"},
    "probe_status": {"type": "int", "default": 200},
    "probe_host": {"type": "str", "default": "localhost"},
    "probe_scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
    "on_trial": {"type": "bool", "default": False},
    "start_timeout_s": {"type": "int", "default": 30},
    "drain_timeout_s": {"type": "int", "default": 60},
}


def plan_of(params: t.Dict[str, t.Any]) -> Plan:
    """Return the plan that the module's parameters describe."""
    return Plan(
        files=SlotFiles(
            release=params["release"] + "\n",
            gunicorn_config=params["gunicorn_config"],
            environment=params["environment_file"],
            service_unit=params["service_unit"],
            socket_unit=params["socket_unit"],
        ),
        probe=Probe(
            path=params["probe_path"],
            status=params["probe_status"],
            host=params["probe_host"],
            scheme=params["probe_scheme"],
        ),
        socket_group=params["socket_group"],
        start_timeout_s=params["start_timeout_s"],
        drain_timeout_s=params["drain_timeout_s"],
    )


def run(module: AnsibleModule, layout: Layout) -> t.Tuple[Outcome, t.List[t.Any]]:
    """Do what is asked; return the outcome and the diff."""
    systemd = Systemd(module_runner(module.run_command))
    switch = Switch(layout, systemd, patience_s=patience_s(layout))
    live = live_slot(layout)
    before = read_slot(layout, live) if live else None
    if module.params["state"] == "absent":
        outcome = switch.remove(
            module.params["drain_timeout_s"], dry_run=module.check_mode
        )
        return outcome, list(differences(before, None))
    plan = plan_of(module.params)
    if module.check_mode:
        return switch.would(plan), list(differences(before, plan.files))
    outcome = switch.converge(plan, on_trial=module.params["on_trial"])
    history.end_rollback(layout)
    return outcome, list(differences(before, plan.files))


def main() -> None:
    module = AnsibleModule(
        argument_spec=_ARGUMENTS,
        required_if=[("state", "live", _TEXTS)],
        supports_check_mode=True,
    )
    try:
        outcome, diff = run(module, Layout(module.params["name"]))
    except (KeepaliveError, OSError, KeyError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(diff=diff, **as_result(outcome))


if __name__ == "__main__":
    main()
