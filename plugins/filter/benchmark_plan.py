# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that turns a study into runs."""

from __future__ import annotations

DOCUMENTATION = r"""
name: benchmark_plan
short_description: Turn a study into the runs that answer it
version_added: 0.1.0
author:
  - keepalive.fastapi contributors (@keepalive)
description:
  - Returns which arms to serve, which cases to compare, and all runs in their order -
    interleaved, every other round backwards.
options:
  _input:
    description:
      - The study - C(title), C(question), C(arms) and, unless all arms are one
        comparison, C(comparisons), lists of names of arms whose first is the base.
    type: dict
    required: true
  requests:
    description: Requests to measure, each with C(name) and C(path).
    type: list
    elements: dict
    required: true
  connections:
    description: Numbers of connections to measure with.
    type: list
    elements: int
    required: true
  pairs:
    description: How often each arm is measured; at least 8.
    type: int
    required: true
  duration_s:
    description: How long a run measures (in seconds).
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Plan
  ansible.builtin.debug:
    msg: >-
      {{ study | keepalive.fastapi.benchmark_plan(
           requests=[{'name': 'health', 'path': '/health'}], connections=[100],
           pairs=8, duration_s=5) }}
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    arms:
      description: For the module C(benchmark_arms).
      type: list
      elements: dict
    cases:
      description: For the module C(benchmark_report).
      type: list
      elements: dict
    warm_ups:
      description: One run for each case and arm, to be made first.
      type: list
      elements: dict
    blocks:
      description: Blocks of rounds, in order, for the module C(benchmark_rounds).
      type: list
      elements: dict
    runs:
      description: How many runs there are.
      type: int
    seconds:
      description: About how long all takes (in seconds).
      type: int
"""

from typing import Any, Callable, Dict, List, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.benchmark_plan import (
    collect,
    options,
    plan,
)


def benchmark_plan(
    study: Mapping[str, Any],
    requests: List[Mapping[str, Any]],
    connections: List[int],
    pairs: int,
    duration_s: int,
) -> Dict[str, Any]:
    """Plan a study; AnsibleFilterError carries every refusal."""
    try:
        return plan(
            study,
            requests,
            connections=[int(number) for number in connections],
            pairs=int(pairs),
            duration_s=int(duration_s),
        )
    except (KeepaliveError, ValueError) as error:
        raise AnsibleFilterError(str(error)) from error


def benchmark_load(
    load: Mapping[str, Any],
    served: List[Mapping[str, Any]],
    host: str,
    common: Mapping[str, Any],
    local: bool,
) -> Dict[str, Any]:
    """Return an arm of benchmark_rounds; see benchmark_plan.options."""
    return options(load, served, host=host, common=common, local=local)


def benchmark_runs(
    results: List[Mapping[str, Any]], warm_ups: List[Mapping[str, Any]], local: bool
) -> List[Dict[str, Any]]:
    """Return the runs of all blocks; see benchmark_plan.collect."""
    return collect(results, warm_ups, local=local)


class FilterModule:
    """Filters by name, as Ansible looks them up."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {
            "benchmark_load": benchmark_load,
            "benchmark_plan": benchmark_plan,
            "benchmark_runs": benchmark_runs,
        }
