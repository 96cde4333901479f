# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a rollout's report on the controller; nothing is asked of a target."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.journal import Journal
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_files import (
    write_whole,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.rollout_report import (
    build,
    junit,
    page,
)

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "journal": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs whole on the controller."""

    _supports_check_mode = True
    _requires_connection = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Run the task; raises AnsibleActionFail for a journal that is none."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _validated, params = self.validate_argument_spec(ARGUMENTS)
        folder = Path(self._loader.path_dwim(params["dest"]))
        try:
            journal = Journal(Path(self._loader.path_dwim(params["journal"])))
            report = build(journal.id, journal.events())
            text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
            files = {
                str(folder / "rollout.json"): text,
                str(folder / "rollout.html"): page(report),
                str(folder / "rollout.xml"): junit(report),
            }
            if not self._task.check_mode:
                write_whole(files)
        except (KeepaliveError, OSError) as error:
            raise AnsibleActionFail(str(error)) from error
        result.update(changed=False, files=list(files), outcome=report["outcome"])
        return result
