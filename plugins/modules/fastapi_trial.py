#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: fastapi_trial
short_description: Deploy on trial, and confirm what serves well
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - A trial begun before a deployment has the host go back by itself, release,
    configuration, environment and nginx site, unless the deployment is confirmed in
    time. The host keeps the time, by its monotonic clock, so a controller that
    is gone or a network that is cut leaves no host on what nobody has approved.
  - Until it is confirmed the slot that was live runs on, so that going back is one
    rename, and a reboot comes back to it.
  - Confirmed or not, what is live is recorded as good by V(confirmed), so that
    M(keepalive.fastapi.fastapi_switch) can come back to it.
options:
  name:
    description: The service; 1 to 31 characters of a-z, 0-9 and C(-).
    type: str
    required: true
  state:
    description:
      - V(begun) begins a trial, or lets one that is under way go on for O(window_s)
        from now. Where nothing is deployed yet it does nothing.
      - V(confirmed) records what is live as good, ends its trial, and stops the slot
        that it has replaced once its connections have ended.
      - V(reverted) goes back to where the trial began; without one it does nothing.
    type: str
    choices: [begun, confirmed, reverted]
    required: true
  window_s:
    description:
      - How long it may take until it is confirmed (in seconds, 5 to 86400), for
        V(begun).
    type: int
    default: 300
  only:
    description:
      - With V(trial) or V(unchanged), V(confirmed) fails if no trial is under way, for
        then the host may have gone back meanwhile.
      - With V(unchanged), it does nothing while something else is live than when the
        trial began.
    type: str
    choices: [trial, unchanged]
  releases_dir:
    description: Where the releases are; by default C(/srv/NAME/releases).
    type: str
    default: ""
attributes:
  check_mode:
    description: Tells what would be done, and changes nothing.
    support: full
  diff_mode:
    description: With V(reverted), shows how the slot's files and the nginx site differ.
    support: partial
  idempotent:
    description: A trial that is begun again lasts longer; the others do nothing again.
    support: partial
"""

EXAMPLES = r"""
- name: Have the host go back by itself unless this is confirmed within five minutes
  keepalive.fastapi.fastapi_trial:
    name: shop
    state: begun
    window_s: 300

- name: Keep what is live
  keepalive.fastapi.fastapi_trial:
    name: shop
    state: confirmed
    only: trial
"""

RETURN = r"""
on_trial:
  description: Whether a trial is under way now.
  returned: success
  type: bool
  sample: true
release:
  description: The release that is live now; empty before the first deployment.
  returned: success
  type: str
  sample: eaabd2a77f1629b1
slot:
  description: The slot that is live now; empty before the first deployment.
  returned: success
  type: str
  sample: green
actions:
  description:
    - What was done, of V(begin), V(confirm), V(promote), V(retire), V(switch) and
      V(site).
  returned: success
  type: list
  elements: str
  sample: [confirm, retire]
connections_cut:
  description: Connections to the stopped slot that its drain did not see end.
  returned: success
  type: int
  sample: 0
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils import history, trial
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Host,
    all_differences,
    host_of,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import (
    module_runner,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Outcome,
    patience_s,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    live_slot,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.trial_verbs import (
    begin_trial,
    confirm,
    revert,
)

_ARGUMENTS: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "state": {
        "type": "str",
        "choices": ["begun", "confirmed", "reverted"],
        "required": True,
    },
    "window_s": {"type": "int", "default": 300},
    "only": {"type": "str", "choices": ["trial", "unchanged"]},
    "releases_dir": {"type": "str", "default": ""},
}


def act(
    params: t.Mapping[str, t.Any], host: Host, *, dry_run: bool
) -> t.Tuple[Outcome, t.List[t.Dict[str, str]]]:
    """Do what is asked; return the outcome and the diff."""
    if params["state"] == "confirmed":
        return confirm(host, dry_run=dry_run, only=params["only"] or ""), []
    live = live_slot(host.layout) or ""
    outcome = Outcome(slot_from=live, slot_to=live)
    if params["state"] == "reverted":
        done = revert(host, dry_run=dry_run)
        return (done[1], list(all_differences(done[0]))) if done else (outcome, [])
    if begin_trial(host, params["window_s"], dry_run=dry_run):
        outcome.did("begin")
    return outcome, []


def main() -> None:
    module = AnsibleModule(argument_spec=_ARGUMENTS, supports_check_mode=True)
    try:
        layout = Layout(module.params["name"])
        releases_dir = Path(module.params["releases_dir"] or layout.releases_dir)
        run = module_runner(module.run_command)
        host = host_of(layout, releases_dir, run, patience_s(layout))
        outcome, diff = act(module.params, host, dry_run=module.check_mode)
        live = history.live_entry(layout)
    except (KeepaliveError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        on_trial=trial.under_way(layout) is not None,
        release=live.release if live else "",
        slot=outcome.slot_to,
        actions=outcome.actions,
        connections_cut=outcome.connections_cut,
        diff=diff,
    )


if __name__ == "__main__":
    main()
