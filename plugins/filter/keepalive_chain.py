# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that turns budgets into a chain of timeouts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: keepalive_chain
short_description: Derive every timeout between client and app from a few budgets
version_added: 0.1.0
author:
  - keepalive.fastapi contributors (@keepalive)
description:
  - Computes the timeouts and limits of nginx, Gunicorn and systemd such that
    nginx closes an idle upstream connection before the app does, and a release
    or restart loses no request.
  - Fails when a value is unusable, or when the budgets or overrides break an
    inequality of the chain. The message names both sides, their values and the
    fix.
  - Every budget is required. The defaults are those of the role
    P(keepalive.fastapi.fastapi_service#role), whose variables have the same
    names behind V(fastapi_service_).
positional: _overrides
options:
  _input:
    description: The budgets. Times are whole seconds.
    type: dict
    required: true
    suboptions:
      request_timeout_s:
        description: The longest time a request may take.
        type: int
        required: true
      client_idle_s:
        description: How long a client or load balancer keeps an idle connection.
        type: int
        required: true
      upstream_idle_s:
        description: How long nginx keeps an idle connection to the app.
        type: int
        required: true
      drain_timeout_s:
        description: How long a switch may wait until the old slot is drained.
        type: int
        required: true
      start_timeout_s:
        description: The time from start until the readiness probe answers.
        type: int
        required: true
      concurrent_requests:
        description:
          - How many requests in flight at once shall find a kept-alive
            connection.
        type: int
        required: true
      peak_requests_per_s:
        description: The peak rate that a restart must queue, or 0 if not stated.
        type: int
        required: true
      backlog:
        description: How many connections the socket queues.
        type: int
        required: true
      max_requests:
        description: Requests after which a worker is recycled, or 0 for never.
        type: int
        required: true
      worker_class:
        description:
          - Gunicorn's worker class, V(asgi) or the dotted path of an ASGI worker.
          - Workers that ignore keepalive or serve WSGI only are refused.
        type: str
        required: true
      workers:
        description: How many Gunicorn workers a slot runs.
        type: int
        required: true
      nginx_workers:
        description: How many worker processes nginx runs.
        type: int
        required: true
      nginx_worker_connections:
        description: The C(worker_connections) of nginx.
        type: int
        required: true
      nginx_worker_shutdown_timeout_s:
        description: The C(worker_shutdown_timeout) of nginx, or 0 if unset.
        type: int
        required: true
      somaxconn:
        description: The host's C(net.core.somaxconn).
        type: int
        required: true
      in_force_keepalive_time_s:
        description:
          - The C(keepalive_time) of the upstream that nginx has now, or 0 if it has
            none.
        type: int
        required: true
      in_force_keepalive_s:
        description: The C(keepalive_timeout) of that upstream, or 0.
        type: int
        required: true
  _overrides:
    description:
      - Values to use in place of derived ones, by the names in RETURN.
      - What follows from an overridden value follows the override.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Derive the chain
  ansible.builtin.set_fact:
    chain: "{{ budgets | keepalive.fastapi.keepalive_chain({'proxy_connect_s': 2}) }}"
  vars:
    budgets:
      request_timeout_s: 30
      client_idle_s: 70
      upstream_idle_s: 15
      drain_timeout_s: 75
      start_timeout_s: 30
      concurrent_requests: 128
      peak_requests_per_s: 0
      backlog: 2048
      max_requests: 0
      worker_class: uvicorn_worker.UvicornWorker
      workers: 2
      nginx_workers: 2
      nginx_worker_connections: 4096
      nginx_worker_shutdown_timeout_s: 0
      somaxconn: 4096
      in_force_keepalive_time_s: 0
      in_force_keepalive_s: 0
"""

RETURN = r"""
_value:
  description: The chain. All values are whole numbers; times are seconds.
  type: dict
  contains:
    drain_timeout_s:
      description: How long a switch waits for a slot that this chain has served.
      type: int
      sample: 75
    drain_limit_s:
      description:
        - How long the next switch waits, which may be longer because the upstream
          in force has older connections.
      type: int
      sample: 75
    backlog:
      description: Backlog of the slot's socket.
      type: int
      sample: 2048
    client_keepalive_s:
      description: C(keepalive_timeout) of nginx towards clients.
      type: int
      sample: 75
    client_keepalive_min_s:
      description:
        - C(keepalive_min_timeout) of nginx towards clients, from 1.27.4 on. For so long
          after its last request a client keeps its connection even if nginx is
          reloaded.
      type: int
      sample: 10
    client_keepalive_requests:
      description: C(keepalive_requests) of nginx towards clients.
      type: int
      sample: 10000
    upstream_keepalive_s:
      description: C(keepalive_timeout) in nginx's upstream.
      type: int
      sample: 15
    app_keepalive_s:
      description:
        - C(keepalive) of Gunicorn, a minute more than nginx's. So nginx closes first
          even if a worker of it stands still for that long.
      type: int
      sample: 75
    app_graceful_s:
      description: C(graceful_timeout) of Gunicorn.
      type: int
      sample: 35
    app_heartbeat_s:
      description: C(timeout) of Gunicorn, a heartbeat for asynchronous workers.
      type: int
      sample: 70
    systemd_start_s:
      description: C(TimeoutStartSec) of a slot.
      type: int
      sample: 30
    systemd_stop_s:
      description: C(TimeoutStopSec) of a slot.
      type: int
      sample: 80
    proxy_connect_s:
      description: C(proxy_connect_timeout) of nginx.
      type: int
      sample: 5
    proxy_read_s:
      description: C(proxy_read_timeout) of nginx.
      type: int
      sample: 70
    proxy_send_s:
      description: C(proxy_send_timeout) of nginx.
      type: int
      sample: 70
    upstream_keepalive_time_s:
      description: C(keepalive_time) in nginx's upstream.
      type: int
      sample: 25
    upstream_keepalive_requests:
      description:
        - C(keepalive_requests) in nginx's upstream, high enough that age retires
          a connection up to 1000 requests a second on it.
      type: int
      sample: 25000
    upstream_keepalive_pool:
      description: C(keepalive) in nginx's upstream, idle connections per nginx worker.
      type: int
      sample: 128
    app_max_requests:
      description: C(max_requests) of Gunicorn.
      type: int
      sample: 0
    app_max_requests_jitter:
      description: C(max_requests_jitter) of Gunicorn, a tenth of C(max_requests).
      type: int
      sample: 0
    limit_nofile:
      description: C(LimitNOFILE) of a slot.
      type: int
      sample: 9216
"""

from typing import Any, Callable, Dict, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain import (
    OVERRIDES_VARIABLE,
    derive_chain,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)


def keepalive_chain(budgets: object, overrides: object = None) -> Dict[str, int]:
    """Derive the chain; AnsibleFilterError carries every refusal."""
    try:
        return derive_chain(
            _dictionary("its input, the budgets,", budgets),
            _dictionary(OVERRIDES_VARIABLE, {} if overrides is None else overrides),
        )
    except KeepaliveError as error:
        raise AnsibleFilterError(str(error)) from error


def _dictionary(name: str, given: object) -> Mapping[str, object]:
    if not isinstance(given, Mapping):
        raise AnsibleFilterError(
            f"keepalive_chain needs {name} as a dictionary, but got {given!r}."
        )
    return given


class FilterModule:
    """Filters by name, as Ansible looks them up."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"keepalive_chain": keepalive_chain}
