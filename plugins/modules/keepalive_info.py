#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: keepalive_info
short_description: Tell whether connections between nginx and an app are kept alive
version_added: 0.1.0
description:
  - Reads what is in force on a host between nginx and the Python applications
    behind it - the configuration as nginx includes and inherits it, the settings
    the application's server runs by, the limits of its unit, and the connections
    that are open now. Judges it, and says what to change.
  - Works on any host with nginx, whoever configured it, with Gunicorn or Uvicorn on
    a Unix socket or a TCP port. Changes nothing.
  - Known are the server's settings as far as they are written. A worker class that
    sets its own, as by C(CONFIG_KWARGS) of C(UvicornWorker), is not seen through.
notes:
  - Needs root, since only root sees who listens where.
  - Runs C(nginx -T), which creates log files that are configured and missing, as a
    reload would.
  - Gunicorn's settings are told by its own loader. It runs with the interpreter,
    the user and the environment of the process, and executes the configuration
    file again, outside of the unit's sandbox; the application is not loaded. Set
    O(load_settings=false) where that file does more than to set values.
author: keepalive.fastapi contributors (@keepalive)
options:
  name:
    description:
      - A service deployed by this collection; what nginx passes on to others is then
        left out. Empty for all.
    type: str
    default: ""
  binary:
    description:
      - The nginx program, by name or path; the one that runs, or C(nginx) on the PATH
        or in C(/usr/sbin), if empty.
    type: str
    default: ""
  load_settings:
    description:
      - Whether to have Gunicorn's loader tell its settings. Otherwise its command line
        and C(GUNICORN_CMD_ARGS) alone do, and what a configuration file may set is
        unknown.
    type: bool
    default: true
extends_documentation_fragment: [keepalive.fastapi.reads_only]
"""

EXAMPLES = r"""
- name: Read what is in force
  keepalive.fastapi.keepalive_info:
  register: keepalive
  become: true

- name: Show what costs connections or requests
  ansible.builtin.debug:
    msg: "{{ item.reason }}. Fix: {{ item.fix }}"
  loop: "{{ keepalive.findings | selectattr('severity', 'eq', 'error') }}"
  loop_control:
    label: "{{ item.id }}"

- name: Stop unless the connections of one service are kept
  keepalive.fastapi.keepalive_info:
    name: shop
  register: shop
  become: true
  failed_when: shop.findings | selectattr('severity', 'eq', 'error') | length > 0
"""

RETURN = r"""
findings:
  description: What is wrong or worth knowing, the worst first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description:
        - A name that does not change. One of a timeout that is in the wrong order is
          the name of its rule in RV(upstreams[].apps[].chain[].rule).
      type: str
    severity:
      description:
        - V(error) costs the reuse of connections, or requests. V(warning) does so in
          some event, or costs something beside. V(info) is worth knowing.
      type: str
    reason:
      description: What is so, and what follows from it.
      type: str
    fix:
      description: What to change.
      type: str
    upstream:
      description: The upstream, by its name or address; empty if it is about nginx.
      type: str
    where:
      description: The servers, locations and files it is about.
      type: str
  sample:
    - id: upstream_pool_zero
      severity: error
      reason: >-
        upstream shop has no 'keepalive', which is off by default before nginx 1.29.7,
        so every request is a connection
      fix: put 'keepalive 32;' in the block, after its servers and balancing method
      upstream: shop
      where: server shop.example.com, location / (/etc/nginx/sites-enabled/shop)
nginx:
  description: The nginx of this host.
  returned: success
  type: dict
  contains:
    binary:
      description: Its program.
      type: str
    version:
      description: The version that runs, or would.
      type: str
    running:
      description: Whether it runs.
      type: bool
    workers:
      description: How many of its workers accept requests.
      type: int
    keepalive_by_default:
      description: Whether this version keeps connections to an upstream unasked.
      type: bool
    worker_shutdown_timeout_s:
      description:
        - How long a reload lets old workers finish (in seconds); null for ever.
      type: float
  sample:
    binary: /usr/sbin/nginx
    version: 1.26.3
    running: true
    workers: 2
    keepalive_by_default: false
    worker_shutdown_timeout_s: null
upstreams:
  description: What nginx passes requests on to, at most 50.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The upstream's name, or the address that C(proxy_pass) gives.
      type: str
    implicit:
      description: Whether C(proxy_pass) gives the address itself.
      type: bool
    servers:
      description: The addresses of its servers.
      type: list
      elements: str
    kept_alive:
      description: Whether nginx reuses connections to it on any location.
      type: bool
    keepalive_per_worker:
      description: How many idle connections a worker of nginx keeps.
      type: int
    keepalive_total:
      description: How many all of its workers keep.
      type: int
    keepalive_is_default:
      description: Whether nothing in the configuration gives that number.
      type: bool
    keepalive_timeout_s:
      description: How long nginx keeps one that is idle (in seconds), if it keeps any.
      type: float
    keepalive_time_s:
      description: After how long one is no longer kept (in seconds), if it keeps any.
      type: float
    keepalive_requests:
      description: After how many requests one is no longer kept, if it keeps any.
      type: int
    locations:
      description: The locations that lead to it, at most 50.
      type: list
      elements: dict
      contains:
        server:
          description: The server's first name, or its port.
          type: str
        location:
          description: The location as written.
          type: str
        file:
          description: Where its C(proxy_pass) stands.
          type: str
        kept_alive:
          description:
            - Whether the request lets the app keep the connection; null if that
              cannot be told.
          type: bool
        http_version:
          description: The version of HTTP that is spoken to the app.
          type: str
        connection:
          description:
            - The header C(Connection) of an ordinary request; empty if none is sent,
              null if that cannot be told.
          type: str
        connection_directive:
          description: Its C(proxy_set_header) in force; null if there is none.
          type: str
        proxy_connect_timeout_s:
          description: The directive of that name (in seconds).
          type: float
        proxy_send_timeout_s:
          description: The directive of that name (in seconds).
          type: float
        proxy_read_timeout_s:
          description: The directive of that name (in seconds).
          type: float
        client_keepalive_timeout_s:
          description: How long a client's idle connection is kept (in seconds).
          type: float
    apps:
      description: Who serves its addresses on this host.
      type: list
      elements: dict
      contains:
        address:
          description: The address.
          type: str
        server:
          description: The application server; empty if it is unknown or not here.
          type: str
        pid:
          description: Its master process; null if none is here.
          type: int
        workers:
          description: Its worker processes.
          type: int
        connections:
          description: Connections open at the address now.
          type: int
        socket_by_systemd:
          description:
            - Whether systemd holds the socket, which then queues while it restarts.
          type: bool
        unit:
          description: Its systemd service; empty if none.
          type: str
        kill_mode:
          description: The unit's C(KillMode).
          type: str
        stop_timeout_s:
          description: The unit's C(TimeoutStopSec) (in seconds); null for no limit.
          type: int
        limit_nofile:
          description: How many files it may open; 0 for no limit.
          type: int
        service:
          description: The service, if this collection deployed it.
          type: str
        live_slot:
          description: The slot that serves, if this collection deployed it.
          type: str
        settings:
          description:
            - What it runs by - C(keepalive_s), C(timeout_s), C(graceful_timeout_s),
              C(workers), C(worker_class), C(max_requests), C(backlog),
              C(forwarded_allow_ips), C(version), C(config_file). Null is unknown, or
              no limit. C(source) is V(gunicorn) if its loader told them, else
              V(command line).
          type: dict
        chain:
          description: Every inequality between timeouts and limits that can be told.
          type: list
          elements: dict
          contains:
            rule:
              description: Its name.
              type: str
            relation:
              description: The inequality.
              type: str
            left:
              description: The value of its left side.
              type: int
            right:
              description: The value of its right side.
              type: int
            holds:
              description: Whether it holds.
              type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.survey import (
    Request,
    Survey,
)


def require_root() -> None:
    if os.geteuid() != 0:
        raise KeepaliveError(
            "this needs root: only root sees which process listens where, and may "
            "read what nginx includes. Set 'become: true'"
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "default": ""},
            "binary": {"type": "str", "default": ""},
            "load_settings": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    try:
        require_root()
        survey = Survey(Request(**module.params), module_runner(module.run_command))
        module.exit_json(**survey.result())
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
