#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fastapi_switch
short_description: Recycle a FastAPI service, or go back to an earlier release
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Works from what the host itself has recorded of its deployments, so it needs
    neither the source nor the variables that they were made of.
  - A deployment is a release with its configuration, its environment and its nginx
    site. It is good once M(keepalive.fastapi.fastapi_slots) has confirmed it, and bad
    if it did not become ready or was left by a rollback.
  - Like every switch it starts the idle slot, probes it, sends new connections there
    by one rename and lets the old slot's connections end. If the slot does not become
    ready, what is live stays so.
options:
  name:
    description: The service; 1 to 31 characters of a-z, 0-9 and C(-).
    type: str
    required: true
  verb:
    description:
      - V(recycle) replaces all processes by new ones of the same deployment, which
        gives back memory without the connections that Gunicorn's C(max_requests)
        would cut.
      - V(rollback) goes back to O(release), or to the last good deployment that
        differs from the one that is live, and marks the one it leaves as bad.
    type: str
    choices: [recycle, rollback]
    required: true
  release:
    description:
      - The release to go back to, which may be one marked as bad; by default the
        last good one.
    type: str
    default: ""
  deployment:
    description:
      - The deployment to go back to, its nginx site included; one of
        RV(keepalive.fastapi.fastapi_service_info#module:live_deployment). Where it is
        live already, nothing is done.
    type: str
    default: ""
  unless:
    description:
      - A rollback does nothing where this deployment is live; one of
        RV(keepalive.fastapi.fastapi_service_info#module:live_deployment).
    type: str
    default: ""
  releases_dir:
    description: Where the releases are; by default C(/srv/NAME/releases).
    type: str
    default: ""
attributes:
  check_mode:
    description: Tells what would be done, and changes nothing.
    support: full
  diff_mode:
    description: Shows how the slot's files and the nginx site differ.
    support: full
  idempotent:
    description:
      - A recycle always switches; a rollback goes one further each time, unless it is
        told to leave what is live.
    support: none
"""

EXAMPLES = r"""
- name: Go back to the last release that served well
  keepalive.fastapi.fastapi_switch:
    name: shop
    verb: rollback

- name: Start anew, without losing a request
  keepalive.fastapi.fastapi_switch:
    name: shop
    verb: recycle
"""

RETURN = r"""
release_from:
  description: The release that was live.
  returned: success
  type: str
  sample: 083f5be5f038f954
release_to:
  description: The release that is live now.
  returned: success
  type: str
  sample: eaabd2a77f1629b1
slot_from:
  description: The slot that was live.
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
    - What was done, of V(switch) and V(site), or for a deployment whose files are live
      already what had to be mended, of V(start), V(link), V(promote) and V(retire).
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
  description: Connections still open when the drain's time had passed.
  returned: success
  type: int
  sample: 0
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Change,
    Goal,
    Host,
    all_differences,
    host_of,
    recycle,
    roll_back,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Outcome,
    as_result,
    patience_s,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout

_ARGUMENTS: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "verb": {"type": "str", "choices": ["recycle", "rollback"], "required": True},
    "release": {"type": "str", "default": ""},
    "deployment": {"type": "str", "default": ""},
    "unless": {"type": "str", "default": ""},
    "releases_dir": {"type": "str", "default": ""},
}


def act(
    params: t.Mapping[str, t.Any], host: Host, *, dry_run: bool
) -> t.Tuple[Change, Outcome]:
    """Do what is asked for."""
    if params["verb"] == "recycle":
        return recycle(host, dry_run=dry_run)
    goal = Goal(**{name: params[name] for name in Goal.__dataclass_fields__})
    return roll_back(host, goal, dry_run=dry_run)


def main() -> None:
    module = AnsibleModule(
        argument_spec=_ARGUMENTS,
        mutually_exclusive=[("release", "deployment")],
        supports_check_mode=True,
    )
    try:
        layout = Layout(module.params["name"])
        releases_dir = Path(module.params["releases_dir"] or layout.releases_dir)
        run = module_runner(module.run_command)
        host = host_of(layout, releases_dir, run, patience_s(layout))
        change, outcome = act(module.params, host, dry_run=module.check_mode)
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))
    result: t.Dict[str, t.Any] = as_result(outcome)
    module.exit_json(
        release_from=change.before.plan.release,
        release_to=change.after.plan.release,
        diff=list(all_differences(change)),
        **result,
    )


if __name__ == "__main__":
    main()
