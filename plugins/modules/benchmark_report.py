#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of benchmark_report, which an action plugin runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: benchmark_report
short_description: Turn the runs of a benchmark study into a report
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Compares the arms of each case on each host by the ratio within pairs of runs, and
    writes C(benchmark.json), C(benchmark.md) and C(benchmark.html) into O(dest).
  - C(docs/benchmark.schema.json) describes each field of C(benchmark.json) with its
    unit. C(benchmark.html) is one file that needs no script and no network.
  - A comparison is V(invalid) when one of its runs is not valid, or with fewer than
    eight valid pairs. It then has reasons and no figure.
  - Latencies of several runs or hosts are those of their added histograms.
  - In check mode it writes nothing. With O(hosts) empty it then tells before any load
    is sent whether the cases make sense and the controller has what a report needs.
requirements:
  - hdrhistogram, matplotlib and scipy on the controller
options:
  study:
    description: Short name of the study.
    type: str
    required: true
  title:
    description:
      - What was compared, as readers should hear it. The verdict begins with it.
    type: str
    required: true
  dest:
    description:
      - Folder on the controller for the files, made if it is missing.
      - A relative path is relative to the directory of the playbook.
    type: path
    required: true
  hosts:
    description:
      - What was measured, by the name of the host.
      - C(conditions) is a dictionary of plain values, or lists of them, shown as they
        are. A key that ends in C(_s), C(_ms), C(_percent) or C(_bytes) names its unit.
      - C(runs) is a list in the order measured. Each run has C(case), C(arm), C(round)
        (runs of a case with the same round are a pair), C(position) (its place in the
        order measured, from 0), and what M(keepalive.fastapi.http_benchmark) returned.
    type: dict
    required: true
  cases:
    description: What is compared.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the case, as in the runs.
        type: str
        required: true
      arms:
        description: Names of the arms, two or more.
        type: list
        elements: str
        required: true
      base:
        description: The arm that each other one is compared with.
        type: str
        required: true
      question:
        description: The question that the case answers.
        type: str
        default: ""
  confidence:
    description:
      - Confidence of the intervals, between 0 and 1. Eight pairs give 0.992 at most.
    type: float
    default: 0.95
attributes:
  action:
    description: Has an action plugin that runs on the controller.
    support: full
  check_mode:
    description: Returns the table and the comparisons, and writes no file.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: Writes anew each time, for the report holds the time it was made.
    support: none
"""

EXAMPLES = r"""
- name: Report what keepalive between nginx and the app gives
  keepalive.fastapi.benchmark_report:
    study: upstream_keepalive
    title: Keepalive between nginx and the app
    dest: "{{ playbook_dir }}/../reports"
    cases:
      - name: async items, 100 connections
        arms: ["off", "on"]
        base: "off"
        question: What does keepalive between nginx and the app give?
    hosts:
      web1:
        conditions: {cores: 2, nginx_version: 1.26.3, workers: 2, duration_s: 10}
        runs: "{{ runs_of_web1 }}"
  run_once: true
  register: report

- name: Show the table
  ansible.builtin.debug:
    msg: "{{ report.table }}"
"""

RETURN = r"""
table:
  description: The verdicts, figures and conditions as text of at most 100 columns.
  returned: success
  type: str
comparisons:
  description: Each arm against the base of its case, on each host.
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: Name of the host.
      type: str
    case:
      description: Name of the case.
      type: str
    arm:
      description: The arm that is compared.
      type: str
    base:
      description: The arm that it is compared with.
      type: str
    verdict:
      description:
        - V(better), V(worse), V(inconclusive) or V(invalid). In the first two cases the
          whole interval is more than 1 % away from no difference.
      type: str
    reasons:
      description: Why the comparison is invalid; empty for the other verdicts.
      type: list
      elements: str
    ratio:
      description:
        - The arm's requests/s divided by the base's, the Hodges-Lehmann estimate of
          the pairs. Null for an invalid comparison, as are C(low),
          C(high) and C(difference_percent).
      type: float
    low:
      description: Lower end of the ratio's confidence interval.
      type: float
    high:
      description: Upper end of the ratio's confidence interval.
      type: float
    confidence:
      description: Confidence of the interval, between 0 and 1.
      type: float
    pairs:
      description: How many valid pairs there are.
      type: int
    pair_ratios:
      description: The ratio of each pair, by round.
      type: list
      elements: float
    difference_percent:
      description: Difference of the averages (in percent of the base's).
      type: float
files:
  description: Paths of the files on the controller; in check mode those it would write.
  returned: success
  type: list
  elements: str
  sample: [/home/me/reports/benchmark.json]
"""
