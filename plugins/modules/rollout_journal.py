#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_journal
short_description: Keep a rollout's journal on the controller
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Writes what a rollout does, when it does it, as one line of JSON an event to
    C(SERVICE.TIME.jsonl). A rollout whose journal has no end was interrupted; the next
    goes on with it.
  - Runs on the controller and needs no connection.
options:
  dest:
    description: Folder of the journals; made if it is missing.
    type: path
    required: true
  service:
    description: The service that is rolled out.
    type: str
    required: true
  state:
    description:
      - V(open) begins a journal, or with O(resume) goes on with the service's
        unfinished one, and fails while another process on this controller has it;
        V(noted) adds O(events) to the unfinished one; V(ended) adds them and ends it.
    type: str
    choices: [open, noted, ended]
    default: noted
  resume:
    description: Whether V(open) goes on with an unfinished journal, or gives it up.
    type: bool
    default: false
  take_over:
    description:
      - Whether V(open) goes on with what another controller has begun, which cannot be
        seen from here to run or not. Without it that fails.
    type: bool
    default: false
  events:
    description: What to add; each has C(event), and whatever else belongs to it.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Reads the journal and writes nothing.
    support: full
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: Every run adds its events; none changes a host.
    support: N/A
notes:
  - Runs on the controller as the action plugin of the same name.
"""

EXAMPLES = r"""
- name: Open the journal
  keepalive.fastapi.rollout_journal:
    dest: reports/rollouts
    service: shop
    state: open
  register: journal
"""

RETURN = r"""
id:
  description: The rollout; empty if none is unfinished.
  returned: success
  type: str
  sample: shop.20261128T143000000000
holder:
  description: The rollout and its controller, for M(keepalive.fastapi.fastapi_claim).
  returned: success
  type: str
  sample: shop.20261128T143000000000@deploy.example.com
path:
  description: The journal's file; empty if none is unfinished.
  returned: success
  type: str
  sample: /home/deploy/site/reports/rollouts/shop.20261128T143000000000.jsonl
before:
  description: The deployment that each host had when the rollout first met it.
  returned: success
  type: dict
  sample: {app1.example.com: 5f3c1f3f8a7be2c0}
ended:
  description:
    - What RV(holder) was of each of the service's rollouts that has ended; empty with
      O(events).
  returned: success
  type: list
  elements: str
  sample: [shop.20261127T090000000000@deploy.example.com]
"""
