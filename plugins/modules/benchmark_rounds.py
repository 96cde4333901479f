#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: benchmark_rounds
short_description: Measure several URLs by turns, so that they can be compared
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Measures each arm once a round as M(keepalive.fastapi.http_benchmark) does, one
    right after the other, every other round backwards. A host's speed changes within
    seconds by more than what is looked for, so only runs next to each other can be
    compared.
options:
  arms:
    description: What to compare. The options of each are those of http_benchmark.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the arm is called.
        type: str
        required: true
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
      timeout_s:
        description: An answer that takes longer makes the run invalid (in seconds).
        type: int
        default: 10
      keepalive:
        description: Whether requests share connections, or each has one of its own.
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
            which nginx's count of accepted and opened connections is taken. Nothing
            else
            may use that nginx meanwhile. Without it C(reuse) is null.
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
          What nginx shall do with connections to the application - keep them alive,
          open a new one for each request, or either. Anything else makes the run
          invalid.
        type: str
        choices: [kept, new, any]
        default: any
  rounds:
    description: How often each arm is measured.
    type: int
    default: 4
  first_round:
    description: The number of the first round; those with an odd one go backwards.
    type: int
    default: 0
  duration_s:
    description: How long each run measures (in seconds).
    type: int
    default: 1
  warmup_max_s:
    description:
      - How long to send load to each arm at most before the first round, until three
        seconds in a row have the same rate to within 5 percent (in seconds); V(0) for
        none. Another rate than a steady one is told and makes no run invalid.
    type: int
    default: 0
  wrk:
    description: The wrk program, as a name or a path.
    type: str
    default: wrk
attributes:
  check_mode:
    description: Returns how long it would take and sends nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: Changes nothing on the host, but measures anew each time.
    support: none
"""

EXAMPLES = r"""
- name: Compare two ports
  keepalive.fastapi.benchmark_rounds:
    rounds: 20
    arms:
      - {name: one, url: "http://127.0.0.1:8001/health"}
      - {name: other, url: "http://127.0.0.1:8002/health"}
  register: measured
"""

RETURN = r"""
runs:
  description:
    - All runs in the order in which they were made, each with the figures that
      M(keepalive.fastapi.http_benchmark) returns, and its arm and round.
  returned: when measured
  type: list
  elements: dict
  sample: [{arm: one, round: 0, valid: true, requests_per_s: 7803.4}]
seconds:
  description: How long the runs take together (in seconds).
  returned: success
  type: int
  sample: 40
wrk_version:
  description: The version of wrk.
  returned: success
  type: str
  sample: debian/4.1.0-3+b2
"""

import typing as t
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.benchmark_run import (
    Arm,
    take_turns,
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
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd
from ansible_collections.keepalive.fastapi.plugins.module_utils.wrk import (
    find,
    measure,
    version,
)

_ARM = {"name": {"type": "str", "required": True}, **LOAD_OPTIONS}
_OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    "arms": {"type": "list", "elements": "dict", "options": _ARM, "required": True},
    "rounds": {"type": "int", "default": 4},
    "first_round": {"type": "int", "default": 0},
    "duration_s": {"type": "int", "default": 1},
    "warmup_max_s": {"type": "int", "default": 0},
    "wrk": {"type": "str", "default": "wrk"},
}


def run(module: AnsibleModule, wrk: str) -> t.List[t.Dict[str, t.Any]]:
    """Send the load; return the runs."""
    given, execute = module.params, module_runner(module.run_command)
    systemd, arms = Systemd(execute), {}
    for options in given["arms"]:
        arm = Arm(
            load_of(options, plan_of(options, given["duration_s"]), systemd),
            lambda plan: measure(plan, wrk, execute, Path(gettempdir())),
            Path("/proc"),
        )
        arm.prepare(
            partial(answer_length, every_status=options["every_status"]),
            given["warmup_max_s"],
        )
        arms[options["name"]] = arm
    return take_turns(arms, rounds=given["rounds"], first_round=given["first_round"])


def main() -> None:
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    given = module.params
    try:
        wrk = find(module.get_bin_path, given["wrk"])
        result: t.Dict[str, t.Any] = {
            "changed": False,
            "wrk_version": version(wrk, module_runner(module.run_command)),
            "seconds": len(given["arms"]) * given["rounds"] * given["duration_s"],
        }
        if not module.check_mode:
            result["runs"] = run(module, wrk)
    except KeepaliveError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
