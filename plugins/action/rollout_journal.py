# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a rollout's journal on the controller; nothing is asked of a target."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.journal import (
    END,
    Journal,
    ended,
    open_journal,
    unfinished,
)

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "dest": {"type": "path", "required": True},
    "service": {"type": "str", "required": True},
    "state": {
        "type": "str",
        "choices": ["open", "noted", "ended"],
        "default": "noted",
    },
    "resume": {"type": "bool", "default": False},
    "take_over": {"type": "bool", "default": False},
    "events": {"type": "list", "elements": "dict", "default": []},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs whole on the controller."""

    _supports_check_mode = True
    _requires_connection = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Run the task; raises AnsibleActionFail if the journal is in use."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _validated, params = self.validate_argument_spec(ARGUMENTS)
        folder = Path(self._loader.path_dwim(params["dest"]))
        try:
            journal = self._journal(folder, params)
            if journal and not self._task.check_mode:
                for each in params["events"]:
                    journal.note(**each)
                if params["state"] == "ended":
                    journal.note(END)
        except (KeepaliveError, OSError, TypeError) as error:
            raise AnsibleActionFail(str(error)) from error
        result.update(
            changed=False,
            id=journal.id if journal else "",
            holder=journal.holder if journal else "",
            path=str(journal.path) if journal else "",
            before=journal.before() if journal else {},
            # All journals are read for it, and a rollout notes many events.
            ended=[] if params["events"] else ended(folder, params["service"]),
        )
        return result

    def _journal(self, folder: Path, params: Dict[str, Any]) -> Optional[Journal]:
        service = params["service"]
        if params["state"] == "open" and not self._task.check_mode:
            return open_journal(
                folder,
                service,
                this_process(),
                is_running,
                resume=params["resume"],
                take_over=params["take_over"],
            )
        return unfinished(folder, service)


def this_process() -> Dict[str, Any]:
    """Name the ansible-playbook process whose worker this is."""
    return {"controller": socket.gethostname(), "pid": os.getppid()}


def is_running(begun: Mapping[str, Any]) -> Optional[bool]:
    """Tell whether the process that began still runs; None for another controller's."""
    pid = begun.get("pid")
    if begun.get("controller") != socket.gethostname():
        return None
    if pid == os.getppid():
        return False
    try:
        words = Path("/proc/{0}/cmdline".format(pid)).read_bytes()
    except OSError:
        return False
    return b"ansible" in words
