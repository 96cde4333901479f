#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: benchmark_arms
short_description: Serve a deployed service in variants, on loopback, for a benchmark
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Starts an nginx beside the one that serves, with the service's own site as it is in
    force, once for each arm on a port of O(address). What an arm names is changed in it
    and nothing else. The application behind it is the live slot.
  - The nginx that serves is neither changed nor reloaded. What is started runs in
    transient units of systemd, which end after O(lifetime_s) by themselves and remove
    their files, also when the controller is gone.
options:
  name:
    description: The service.
    type: str
    required: true
  state:
    description: Whether the arms run. V(absent) stops those of any benchmark.
    type: str
    choices: [present, absent]
    default: present
  arms:
    description: The arms. Those of an earlier benchmark are stopped.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What the arm is called.
        type: str
        required: true
      kind:
        description:
          - V(site) is the service's nginx site. V(page) is the configuration that the
            original page published, but for the backlog. V(direct) is the application
            without nginx, with the live slot's configuration, on a TCP port.
        type: str
        choices: [site, page, direct]
        default: site
      upstream_pool:
        description:
          - C(keepalive) of the upstream. V(0) has nginx open a connection for each
            request. Unless it is given, the arm keeps what is in force.
        type: int
      tls:
        description: Whether the arm's port speaks TLS, with the site's certificate.
        type: bool
        default: false
      settings:
        description:
          - Directives to set, by context (V(main), V(events), V(http), V(upstream),
            V(server), V(location)) and name. Each replaces all directives of its
            name in
            that context; a list gives several, null takes them away.
        type: dict
        default: {}
      gunicorn:
        description:
          - Options of Gunicorn that differ from the live slot's - C(backlog),
            C(graceful-timeout), C(keep-alive), C(log-level), C(max-requests),
            C(max-requests-jitter), C(threads), C(timeout), C(worker-class),
            C(worker-connections) and C(workers). With any, the arm has an
            application of
            its own, in a unit with the live slot's sandbox and environment.
          - C(listeners-per-worker) stands for the variable of that name of the role
            P(keepalive.fastapi.fastapi_service#role).
        type: dict
        default: {}
      slot:
        description:
          - Whose application answers. V(other) is what ran before a deployment that is
            on trial.
        type: str
        choices: [live, other]
        default: live
  address:
    description:
      - The address to listen on. Another than V(127.0.0.1), for a generator on another
        host, is open to whoever can reach it.
    type: str
    default: 127.0.0.1
  first_port:
    description:
      - The first arm's port. The others follow, and 64 above it those of the counters.
    type: int
    default: 18700
  lifetime_s:
    description: When everything ends by itself (in seconds).
    type: int
    default: 3600
attributes:
  check_mode:
    description: >-
      Refuses what could not be started, returns where the arms would be, and starts
      nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: V(present) starts the arms anew each time.
    support: partial
"""

EXAMPLES = r"""
- name: Serve the shop with and without kept-alive connections to the app
  keepalive.fastapi.benchmark_arms:
    name: shop
    arms:
      - {name: "off", upstream_pool: 0}
      - {name: "on"}
  register: arms

- name: End it
  keepalive.fastapi.benchmark_arms:
    name: shop
    state: absent
"""

RETURN = r"""
arms:
  description: Where each arm is.
  returned: when state is present
  type: list
  elements: dict
  contains:
    name:
      description: As given.
      type: str
    url:
      description: Scheme, host and port.
      type: str
      sample: http://127.0.0.1:18700
    app_socket:
      description: Where nginx reaches its application.
      type: str
      sample: unix:/run/shop/live.sock
    app_unit:
      description: The unit of its application.
      type: str
      sample: shop@blue.service
    nginx_status_url:
      description: The counters of its nginx; empty without one. Not in check mode.
      type: str
      sample: http://127.0.0.1:18764/status
conditions:
  description: What the figures depend on - operating system, kernel, cores, versions.
  returned: when the arms were started
  type: dict
  sample: {cores: 2, nginx_version: 1.26.3, app_workers: 2}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms_host import (
    Arms,
    Wanted,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    find_nginx,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout

_ARM: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": ["site", "page", "direct"], "default": "site"},
    "upstream_pool": {"type": "int"},
    "tls": {"type": "bool", "default": False},
    "settings": {"type": "dict", "default": {}},
    "gunicorn": {"type": "dict", "default": {}},
    "slot": {"type": "str", "choices": ["live", "other"], "default": "live"},
}
_OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "arms": {"type": "list", "elements": "dict", "options": _ARM, "default": []},
    "address": {"type": "str", "default": "127.0.0.1"},
    "first_port": {"type": "int", "default": 18700},
    "lifetime_s": {"type": "int", "default": 3600},
}


def serve(arms: Arms, given: t.Dict[str, t.Any], *, check: bool) -> t.Dict[str, t.Any]:
    """Do what the task asks; return the result. Raises KeepaliveError."""
    if given["state"] == "absent":
        return {"changed": bool(arms.running()) if check else arms.stop()}
    wanted = [Wanted(**each) for each in given["arms"]]
    if check:
        return {"changed": True, "arms": arms.plan(wanted, given["first_port"])}
    started = arms.start(wanted, given["first_port"], given["lifetime_s"])
    return {"changed": True, **started}


def arms_of(module: AnsibleModule) -> Arms:
    """Return the host's arms. Raises KeepaliveError without nginx."""
    nginx = find_nginx("nginx")
    if nginx is None:
        raise KeepaliveError("nginx is not installed on this host; deploy a service")
    run = module_runner(module.run_command)
    return Arms(Layout(module.params["name"]), nginx, run, module.params["address"])


def main() -> None:
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    try:
        result = serve(arms_of(module), module.params, check=module.check_mode)
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
