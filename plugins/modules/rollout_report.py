#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_report
short_description: Write a rollout's report on the controller
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Turns a journal of M(keepalive.fastapi.rollout_journal) into C(rollout.json),
    C(rollout.html), one file that needs no script and no network, and C(rollout.xml),
    which is JUnit.
  - Runs on the controller and needs no connection.
options:
  journal:
    description: Path of the journal.
    type: path
    required: true
  dest:
    description: Folder of the report; made if it is missing.
    type: path
    required: true
attributes:
  check_mode:
    description: Reads the journal and writes nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: The same journal gives the same report.
    support: full
notes:
  - Runs on the controller as the action plugin of the same name.
"""

EXAMPLES = r"""
- name: Write the report
  keepalive.fastapi.rollout_report:
    journal: reports/rollouts/shop.20261128T143000000000.jsonl
    dest: reports
"""

RETURN = r"""
outcome:
  description: V(passed), V(stopped), or V(unfinished) for one that was interrupted.
  returned: success
  type: str
  sample: passed
files:
  description: Paths of the files on the controller.
  returned: success
  type: list
  elements: str
  sample: [/home/me/site/reports/rollout.json]
"""
