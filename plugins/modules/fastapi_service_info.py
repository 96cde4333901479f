#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fastapi_service_info
short_description: Tell what a FastAPI service runs on a host
version_added: 0.1.0
description:
  - Reads which slot of a service is live, which release each slot has, which
    releases are complete, and the few facts of the host that a service's
    configuration is derived from. Changes nothing.
author: keepalive.fastapi contributors (@keepalive)
options:
  name:
    description: The service.
    type: str
    required: true
  releases_dir:
    description: Where its releases are; C(/srv/NAME/releases) if empty.
    type: str
    default: ""
  user:
    description: The user whose existence to report; the service's name if empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Runs in check mode as it does otherwise.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Read what runs
  keepalive.fastapi.fastapi_service_info:
    name: shop
  register: shop

- name: Show it
  ansible.builtin.debug:
    msg: "{{ shop.live_slot }} is live with release {{ shop.live_release }}"
"""

RETURN = r"""
live_slot:
  description: The slot that new connections go to; empty if there is none.
  returned: success
  type: str
  sample: blue
live_release:
  description: The release of the live slot; empty if there is none.
  returned: success
  type: str
  sample: 1f0c9a7d5be64e01
slots:
  description: Each slot's state.
  returned: success
  type: dict
  contains:
    release:
      description: The release the slot was last written with; empty if never.
      type: str
    active_state:
      description: What systemd says of its service.
      type: str
    app_keepalive_s:
      description:
        - How long its Gunicorn keeps an idle connection (in seconds); 0 if it was
          never written.
      type: int
    connections:
      description: Connections its socket holds now.
      type: int
  sample:
    blue:
      release: 1f0c9a7d5be64e01
      active_state: active
      app_keepalive_s: 30
      connections: 4
releases:
  description: Complete releases, oldest first.
  returned: success
  type: list
  elements: str
  sample: [1f0c9a7d5be64e01]
cores:
  description: Processors that this host's processes may use.
  returned: success
  type: int
  sample: 4
somaxconn:
  description: The kernel's limit of any listen queue.
  returned: success
  type: int
  sample: 4096
user_exists:
  description: Whether O(user) exists.
  returned: success
  type: bool
  sample: true
nginx_version:
  description: Version of the installed nginx; empty if there is none.
  returned: success
  type: str
  sample: 1.26.3
"""

import os
import pwd
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils import unix_connections
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release import (
    list_releases,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    SLOTS,
    Layout,
    app_keepalive_s,
    live_slot,
    read_slot,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd


def slot_states(layout: Layout, systemd: Systemd) -> t.Dict[str, t.Dict[str, t.Any]]:
    """Return the state of both slots."""
    sockets = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
    states = {}
    for slot in SLOTS:
        files = read_slot(layout, slot)
        unit, path = layout.service_unit(slot), str(layout.socket(slot))
        states[slot] = {
            "release": files.release.strip() if files else "",
            "app_keepalive_s": app_keepalive_s(files) if files else 0,
            "active_state": systemd.show(unit, "ActiveState")["ActiveState"],
            "connections": unix_connections.count_connections(sockets, path),
        }
    return states


def user_exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def nginx_version(module: AnsibleModule) -> str:
    binary = module.get_bin_path("nginx", opt_dirs=["/usr/sbin", "/usr/local/sbin"])
    if not binary:
        return ""
    _status, _out, err = module.run_command([binary, "-v"])
    words = err.partition("nginx/")[2].split()
    return words[0] if words else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "releases_dir": {"type": "str", "default": ""},
            "user": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    name = module.params["name"]
    try:
        layout = Layout(name)
        states = slot_states(layout, Systemd(module_runner(module.run_command)))
        releases_dir = module.params["releases_dir"] or "/srv/{0}/releases".format(name)
        releases = [release.id for release in list_releases(Path(releases_dir))]
        somaxconn = int(Path("/proc/sys/net/core/somaxconn").read_text())
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))
    live = live_slot(layout) or ""
    module.exit_json(
        live_slot=live,
        live_release=states[live]["release"] if live else "",
        slots=states,
        releases=releases,
        cores=len(os.sched_getaffinity(0)),
        somaxconn=somaxconn,
        user_exists=user_exists(module.params["user"] or name),
        nginx_version=nginx_version(module),
    )


if __name__ == "__main__":
    main()
