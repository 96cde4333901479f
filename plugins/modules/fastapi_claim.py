#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fastapi_claim
short_description: Keep a FastAPI service on a host for one rollout
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - A rollout claims the service on each of its hosts, so that a second one, from
    whichever controller, is refused. A claim ends by itself after O(ttl_s), and when
    the host is restarted.
  - It keeps nobody from deploying to a host by other means.
options:
  name:
    description: The service; 1 to 31 characters of a-z, 0-9 and C(-).
    type: str
    required: true
  holder:
    description: Tells this rollout from any other.
    type: str
    required: true
  state:
    description:
      - V(present) claims the service, or goes on to hold it, and fails if another
        holder has it; V(absent) ends this holder's claim and leaves others alone.
    type: str
    choices: [present, absent]
    default: present
  ttl_s:
    description: How long the claim lasts from now on (in seconds, 1 to 604800).
    type: int
    default: 3600
attributes:
  check_mode:
    description: Tells whether the claim could be had, and takes none.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: A claim that is held already lasts longer, which is no change.
    support: full
"""

EXAMPLES = r"""
- name: Claim the shop for this rollout
  keepalive.fastapi.fastapi_claim:
    name: shop
    holder: shop.20261128T143000000000@deploy.example.com
    ttl_s: 1800
"""

RETURN = r"""
holder:
  description: Whose the service is now; empty if nobody's.
  returned: success
  type: str
  sample: shop.20261128T143000000000@deploy.example.com
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.claim import (
    current,
    give_up,
    refuse_other,
    take,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout

LONGEST_S = 604_800


def act(params: t.Mapping[str, t.Any], layout: Layout, *, dry_run: bool) -> bool:
    """Claim the service or give it up; return whether that is a change."""
    holder, now_s = params["holder"], time.monotonic()
    if not 1 <= params["ttl_s"] <= LONGEST_S:
        raise KeepaliveError(
            "ttl_s is {0}; it must be 1 to {1}".format(params["ttl_s"], LONGEST_S)
        )
    known = current(layout, now_s)
    held = known is not None and known.holder == holder
    if params["state"] == "absent":
        return held if dry_run else give_up(layout, holder, now_s)
    if dry_run:
        refuse_other(layout, known, holder, now_s)
        return not held
    return take(layout, holder, params["ttl_s"], now_s)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "holder": {"type": "str", "required": True},
            "state": {
                "type": "str",
                "choices": ["present", "absent"],
                "default": "present",
            },
            "ttl_s": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    try:
        layout = Layout(module.params["name"])
        changed = act(module.params, layout, dry_run=module.check_mode)
        now = current(layout, time.monotonic())
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, holder=now.holder if now else "")


if __name__ == "__main__":
    main()
