#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: http_benchmark
short_description: Measure a URL with wrk, and say whether to believe the figures
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Runs wrk on the host against a URL and returns what it measured as numbers.
  - wrk takes a server that never answers, redirects and late answers for a
    success. Every run is therefore checked, and RV(valid) is V(false) with
    RV(invalid_reasons) when its figures are not those of the question.
  - wrk checks no certificate, so one request before the load does.
options:
  url:
    description: What to request.
    type: str
    required: true
  method:
    description: The HTTP method.
    type: str
    default: GET
  body:
    description: The body of every request.
    type: str
    default: ""
  headers:
    description: Headers of every request, by name.
    type: dict
    default: {}
  expected_status:
    description: The status that every answer must have.
    type: int
    default: 200
  connections:
    description: Connections that are open at once.
    type: int
    default: 100
  threads:
    description: Threads of wrk, which share the connections.
    type: int
    default: 1
  duration_s:
    description: How long to measure (in seconds).
    type: int
    default: 10
  warmup_max_s:
    description:
      - How long to send load at most before the measurement, until three seconds in
        a row have the same rate to within 5 percent (in seconds); V(0) for none.
    type: int
    default: 10
  timeout_s:
    description: An answer that takes longer makes the run invalid (in seconds).
    type: int
    default: 10
  keepalive:
    description: Whether requests share connections, or each has one of its own.
    type: bool
    default: true
  validate_certs:
    description: Whether the certificate of an C(https) URL must be valid.
    type: bool
    default: true
  cpus:
    description: Processors that wrk runs on, as C(taskset --cpu-list) takes them.
    type: str
    default: ""
  app_unit:
    description: The systemd service whose CPU time is that of the application.
    type: str
    default: ""
  every_status:
    description:
      - Whether wrk counts the status of every answer. It does so in any case where
        the answers are not of one length, and it costs about 2 microseconds of CPU
        for each. Otherwise three requests before the load tell status and length,
        wrk counts statuses of 400 and above, and the bytes that it has read tell
        whether all other answers were that one.
    type: bool
    default: false
  nginx_status_url:
    description:
      - A page of C(stub_status) with C(add_header X-Connection $connection), from
        which nginx's count of accepted and opened connections is taken. Nothing else
        may use that nginx meanwhile. Without it RV(reuse) is null.
    type: str
    default: ""
  app_socket:
    description:
      - Where nginx on this host reaches the application, as V(unix:/path) or
        V(host:port). Its connections are looked at during the run, as a second
        witness of reuse.
    type: str
    default: ""
  expect_upstream:
    description: >-
      What nginx shall do with connections to the application - keep them alive, open
      a new one for each request, or either. Anything else makes the run invalid.
    type: str
    choices: [kept, new, any]
    default: any
  wrk:
    description: The wrk program, as a name or a path.
    type: str
    default: wrk
attributes:
  check_mode:
    description: Returns the plan and sends nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: Changes nothing on the host, but measures anew each time.
    support: none
"""

EXAMPLES = r"""
- name: Measure an endpoint on kept-alive connections
  keepalive.fastapi.http_benchmark:
    url: http://127.0.0.1/async/items/
    method: POST
    body: '{"name": "a", "price": 1.5}'
    headers: {Host: shop.example.com, Content-Type: application/json}
  register: measured

- name: Refuse figures that mean nothing
  ansible.builtin.assert:
    that: measured.valid
    fail_msg: "{{ measured.invalid_reasons | join('; ') }}"
"""

RETURN = r"""
valid:
  description: Whether the run measured what was asked; not in check mode.
  returned: when measured
  type: bool
  sample: true
invalid_reasons:
  description: Why it did not.
  returned: when measured
  type: list
  elements: str
  sample: []
command:
  description: The command line of wrk.
  returned: success
  type: list
  elements: str
wrk_version:
  description: The version of wrk.
  returned: success
  type: str
  sample: debian/4.1.0-3+b2
seconds_at_most:
  description: How long warm-up and measurement may take together (in seconds).
  returned: success
  type: int
  sample: 20
warmup_steady:
  description: Whether the rate became steady in warm-up; null without one.
  returned: when measured
  type: bool
  sample: true
warmup_rates_per_s:
  description: The rate in each second of warm-up (in requests per second).
  returned: when measured
  type: list
  elements: float
  sample: [7011.2, 7700.1, 7693.0, 7725.4]
duration_s:
  description: How long was measured (in seconds).
  returned: when measured
  type: float
  sample: 10.003
requests:
  description: Requests that were answered.
  returned: when measured
  type: int
  sample: 78058
requests_per_s:
  description: Answers per second.
  returned: when measured
  type: float
  sample: 7803.4
cycle_time_ms:
  description:
    - Connections divided by the rate (in milliseconds), which is the time of a
      request with all that belongs to it. Latencies leave out opening a connection.
  returned: when measured
  type: float
  sample: 12.815
latency_p50_ms:
  description:
    - Half of the answers took no longer (in milliseconds). Likewise
      C(latency_p75_ms), C(latency_p90_ms), C(latency_p99_ms), C(latency_p99_9_ms)
      and C(latency_max_ms). Null where no answer came in time.
  returned: when measured
  type: float
  sample: 11.402
latency_coordinated_omission:
  description: How requests are treated that a slow answer kept from being sent.
  returned: when measured
  type: str
latency_histogram:
  description:
    - All latencies in microseconds with two significant digits, as an
      HdrHistogram (V2, compressed, base64). Histograms can be added, percentiles
      cannot be averaged.
  returned: when measured
  type: str
errors:
  description:
    - Errors by kind. V(connect), V(read), V(write) and V(timeout) as wrk counts
      them; V(status) are answers with a status of 400 or above.
  returned: when measured
  type: dict
  sample: {connect: 0, read: 0, write: 0, timeout: 0, status: 0}
statuses:
  description: Answers by status; empty unless they were counted, see O(every_status).
  returned: when measured
  type: dict
  sample: {"200": 78058}
bytes_read:
  description: Bytes of the answers.
  returned: when measured
  type: int
  sample: 12645396
cpu_nginx_s:
  description: CPU time of nginx on this host (in seconds); null where none runs.
  returned: when measured
  type: float
  sample: 4.11
cpu_app_s:
  description: CPU time of O(app_unit) (in seconds); null without one.
  returned: when measured
  type: float
  sample: 9.72
cpu_generator_s:
  description: CPU time of wrk (in seconds).
  returned: when measured
  type: float
  sample: 1.93
cpu_steal_s:
  description: CPU time that the hypervisor kept from this host (in seconds).
  returned: when measured
  type: float
  sample: 0.02
reuse:
  description:
    - Connections opened per request on the hop to nginx (C(client)) and on the hop
      to the application (C(upstream)), as nginx counts them (exact) and as the
      kernel tells (exact for clients, otherwise estimated from samples), and whether
      both can be right. Null without O(nginx_status_url).
  returned: when measured
  type: dict
  sample:
    client: {nginx: 0.00131, kernel: 0.00131, agree: true}
    upstream: {nginx: 1.00012, kernel: 1.0, agree: true}
load_1m:
  description: Load average of the last minute when the run had ended.
  returned: when measured
  type: float
  sample: 1.4
"""

import typing as t
from pathlib import Path
from tempfile import gettempdir

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.benchmark_run import (
    benchmark,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.load_options import (
    LOAD_OPTIONS,
    answer_length,
    load_of,
    plan_of,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import (
    check_certificate,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd
from ansible_collections.keepalive.fastapi.plugins.module_utils.wrk import (
    WrkPlan,
    command,
    find,
    measure,
    version,
)

_OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    **LOAD_OPTIONS,
    "duration_s": {"type": "int", "default": 10},
    "warmup_max_s": {"type": "int", "default": 10},
    "validate_certs": {"type": "bool", "default": True},
    "wrk": {"type": "str", "default": "wrk"},
}


def run(module: AnsibleModule, plan: WrkPlan, wrk: str) -> t.Dict[str, t.Any]:
    """Send the load; return what was measured."""
    given, execute = module.params, module_runner(module.run_command)
    if given["validate_certs"]:
        check_certificate(plan.url, plan.headers.get("Host", ""), plan.timeout_s)
    return benchmark(
        load_of(given, plan, Systemd(execute)),
        lambda planned: measure(planned, wrk, execute, Path(gettempdir())),
        lambda planned: answer_length(planned, every_status=given["every_status"]),
        warmup_max_s=given["warmup_max_s"],
        proc=Path("/proc"),
    )


def main() -> None:
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    given = module.params
    try:
        wrk = find(module.get_bin_path, given["wrk"])
        plan = plan_of(given, given["duration_s"])
        result = {
            "changed": False,
            "command": command(plan, wrk, "SCRIPT"),
            "wrk_version": version(wrk, module_runner(module.run_command)),
            "seconds_at_most": given["warmup_max_s"] + plan.duration_s,
        }
        if not module.check_mode:
            result.update(run(module, plan, wrk))
    except KeepaliveError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
