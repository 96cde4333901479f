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
  packages:
    description:
      - Packages of which to report those that are missing, named as
        M(ansible.builtin.apt) takes them.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [keepalive.fastapi.reads_only]
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
live_deployment:
  description:
    - Tells what is live, its site in nginx included, from any other; empty if no switch
      has recorded it.
  returned: success
  type: str
  sample: 5f3c1f3f8a7be2c0
trial:
  description:
    - What the host goes back to by itself, and in how many seconds at most, unless what
      is live is confirmed; empty without a trial.
  returned: success
  type: dict
  contains:
    back_to_release:
      description: The release that it goes back to.
      type: str
    back_to_deployment:
      description: As RV(live_deployment) was when the trial began.
      type: str
    seconds_left:
      description: How long it may still be confirmed (in seconds).
      type: float
  sample:
    back_to_release: 083f5be5f038f954
    back_to_deployment: 5f3c1f3f8a7be2c0
    seconds_left: 281.4
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
live_is_good:
  description:
    - Whether what is live, with the site in place, is recorded as what a rollback may
      come back to.
  returned: success
  type: bool
  sample: true
releases:
  description: Complete releases, oldest first.
  returned: success
  type: list
  elements: str
  sample: [1f0c9a7d5be64e01]
claim_holder:
  description: The rollout that has claimed the service; empty if none has.
  returned: success
  type: str
  sample: ""
releases_free_mb:
  description:
    - Room where the releases are (in MB, of 1,000,000 bytes), as root may use it.
  returned: success
  type: int
  sample: 21474
history:
  description:
    - What the service has run here, the latest first. C(verdict) is V(good) once it was
      seen to serve through nginx, V(unproven) before, and V(bad) if it did not become
      ready or was left by a rollback, with the C(reason).
  returned: success
  type: list
  elements: dict
  sample:
    - {release: 1f0c9a7d5be64e01, verdict: good, reason: ""}
missing_packages:
  description:
    - Those of O(packages) that are not installed, and those of which only apt can tell,
      such as a virtual package.
  returned: success
  type: list
  elements: str
  sample: []
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
user_comment:
  description: The comment by which a user that the role makes is known.
  returned: success
  type: str
  sample: keepalive.fastapi service shop
user_is_own:
  description: Whether the role fastapi_service made O(user) for this service.
  returned: success
  type: bool
  sample: true
foreign:
  description:
    - What stands in this service's way and is somebody else's - paths, or a group
      that has the name of O(user), which does not exist.
  returned: success
  type: list
  elements: str
  sample: []
site:
  description: The nginx file of its site, relative to C(/etc/nginx).
  returned: success
  type: str
  sample: conf.d/shop.conf
site_sha256:
  description:
    - Checksum of that file; empty if there is none, or if
      M(keepalive.fastapi.nginx_config) has more to do than its text, such as a reload
      that an earlier run owes.
  returned: success
  type: str
  sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
upstream_keepalive_time_s:
  description:
    - C(keepalive_time) of the nginx site in force (in seconds); 0 if it keeps no
      connections or there is no site.
  returned: success
  type: int
  sample: 25
upstream_keepalive_s:
  description: C(keepalive_timeout) of its upstream (in seconds), or 0.
  returned: success
  type: int
  sample: 15
nginx_version:
  description: Version of the installed nginx; empty if there is none.
  returned: success
  type: str
  sample: 1.26.3
"""

import grp
import os
import pwd
import time
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.claim import current
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.kernel import somaxconn
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    find_nginx,
    installed_version,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.packages import missing
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.service_facts import (
    service_facts,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    foreign_paths,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd


def user_facts(user: str, service: str) -> t.Dict[str, t.Any]:
    """Tell whether the user exists, and whether the role made it."""
    own_comment = "keepalive.fastapi service {0}".format(service)
    try:
        comment = pwd.getpwnam(user).pw_gecos
    except KeyError:
        comment = None
    return {
        "user_comment": own_comment,
        "user_exists": comment is not None,
        "user_is_own": comment == own_comment,
    }


def is_group(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def foreign(layout: Layout, user: str, *, user_exists: bool) -> t.List[str]:
    """Name what stands in the service's way."""
    found = [str(path) for path in foreign_paths(layout, user)]
    if not user_exists and is_group(user):
        found.append("the group {0}".format(user))
    return found


def claim_holder(layout: Layout) -> str:
    claim = current(layout, time.monotonic())
    return claim.holder if claim else ""


def free_mb(path: Path) -> int:
    """Return the room where a folder is, or will be (MB)."""
    while not path.exists():
        path = path.parent
    stats = os.statvfs(path)
    return stats.f_bfree * stats.f_frsize // 1_000_000


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "releases_dir": {"type": "str", "default": ""},
            "user": {"type": "str", "default": ""},
            "packages": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    name = module.params["name"]
    user = module.params["user"] or name
    run = module_runner(module.run_command)
    users = user_facts(user, name)
    try:
        layout = Layout(name)
        releases_dir = Path(module.params["releases_dir"] or layout.releases_dir)
        module.exit_json(
            cores=len(os.sched_getaffinity(0)),
            somaxconn=somaxconn(),
            nginx_version=installed_version(find_nginx("nginx"), run) or "",
            claim_holder=claim_holder(layout),
            missing_packages=missing(module.params["packages"], run),
            releases_free_mb=free_mb(releases_dir),
            foreign=foreign(layout, user, user_exists=users["user_exists"]),
            **service_facts(layout, Systemd(run), releases_dir),
            **users,
        )
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
