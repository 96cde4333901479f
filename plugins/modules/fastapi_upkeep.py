#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fastapi_upkeep
short_description: A FastAPI service's program on its host, and timers that recycle it
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Puts C(/usr/local/sbin/fastapi-NAME) on the host, which shows what runs, recycles
    the service and goes back to an earlier release without a controller, as
    M(keepalive.fastapi.fastapi_switch) does. It is one file that needs the host's
    Python alone.
  - If asked for, systemd recycles the service by that program on a schedule, or when
    its processes use too much memory. That stands in for Gunicorn's C(max_requests),
    which ends a worker and with it connections that nginx keeps.
options:
  name:
    description: The service; 1 to 31 characters of a-z, 0-9 and C(-).
    type: str
    required: true
  state:
    description: Whether program and timers are there; V(absent) removes both.
    type: str
    choices: [present, absent]
    default: present
  releases_dir:
    description: Where the releases are; by default C(/srv/NAME/releases).
    type: str
    default: ""
  recycle_schedule:
    description:
      - When to recycle, as a calendar event of systemd.time(7), such as V(daily) or
        V(Sun 04:00); never if it is empty.
    type: str
    default: ""
  recycle_spread_s:
    description:
      - Begin up to this much later (in seconds), so that not all hosts do at once.
    type: int
    default: 300
  recycle_memory_mb:
    description:
      - Recycle when the live slot's processes use more than this together (in MB, of
        1,000,000 bytes; what they share counts once), looked at once a minute; V(0)
        never does.
    type: int
    default: 0
  recycle_min_age_s:
    description:
      - Not for its memory before the live slot has run for so long (in seconds). A
        limit too low for the application would have it recycled all the time.
    type: int
    default: 3600
attributes:
  check_mode:
    description: Tells whether something would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows how the units differ, and the digests of the program.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Recycle the shop above 1.5 GB, and every Sunday night
  keepalive.fastapi.fastapi_upkeep:
    name: shop
    recycle_memory_mb: 1500
    recycle_schedule: Sun 04:00
"""

RETURN = r"""
program:
  description: The program's path.
  returned: success
  type: str
  sample: /usr/local/sbin/fastapi-shop
"""

import os
import sys
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.program_archive import (
    packed,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd
from ansible_collections.keepalive.fastapi.plugins.module_utils.upkeep import (
    Recycling,
    Upkeep,
    units,
)

HOST_PYTHON = "/usr/bin/python3"

_ARGUMENTS: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "releases_dir": {"type": "str", "default": ""},
    "recycle_schedule": {"type": "str", "default": ""},
    "recycle_spread_s": {"type": "int", "default": 300},
    "recycle_memory_mb": {"type": "int", "default": 0},
    "recycle_min_age_s": {"type": "int", "default": 3600},
}


def interpreter() -> str:
    """Return the Python to run by: the host's, whose path outlives its upgrades."""
    return HOST_PYTHON if os.path.exists(HOST_PYTHON) else sys.executable


def converge(module: AnsibleModule, layout: Layout) -> Upkeep:
    """Make program and timers be as they are asked for."""
    given, run = module.params, module_runner(module.run_command)
    upkeep = Upkeep(layout, Systemd(run), dry_run=module.check_mode)
    if given["state"] == "absent":
        upkeep.remove()
        return upkeep
    recycling = Recycling(
        schedule=given["recycle_schedule"].strip(),
        spread_s=given["recycle_spread_s"],
        memory_mb=given["recycle_memory_mb"],
        min_age_s=given["recycle_min_age_s"],
    )
    recycling.check_schedule(run)
    releases_dir = Path(given["releases_dir"] or layout.releases_dir)
    program = packed(layout.name, str(releases_dir), interpreter())
    upkeep.put(program, units(layout, recycling))
    return upkeep


def main() -> None:
    module = AnsibleModule(argument_spec=_ARGUMENTS, supports_check_mode=True)
    try:
        layout = Layout(module.params["name"])
        upkeep = converge(module, layout)
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=upkeep.changed, diff=upkeep.diff, program=str(layout.program)
    )


if __name__ == "__main__":
    main()
