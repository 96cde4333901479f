# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes a benchmark's report on the controller; nothing is asked of a target."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.libraries import (
    check_libraries,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_files import (
    write_whole,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_html import (
    html_report,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_markdown import (
    markdown_report,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_table import (
    terminal_table,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_result import (
    Result,
    build_result,
)

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "study": {"type": "str", "required": True},
    "title": {"type": "str", "required": True},
    "dest": {"type": "path", "required": True},
    "hosts": {"type": "dict", "required": True},
    "cases": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "arms": {"type": "list", "elements": "str", "required": True},
            "base": {"type": "str", "required": True},
            "question": {"type": "str", "default": ""},
        },
    },
    "confidence": {"type": "float", "default": 0.95},
}
_ROOT = os.path.join(os.path.dirname(__file__), os.pardir, os.pardir)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs whole on the controller."""

    _supports_check_mode = True
    _requires_connection = False

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Run the task; raises AnsibleActionFail for input that is no study."""
        result: Dict[str, Any] = super().run(tmp, task_vars)
        _validated, params = self.validate_argument_spec(ARGUMENTS)
        folder = self._loader.path_dwim(params.pop("dest"))
        try:
            check_libraries()
            study = build_result(
                created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                collection_version=collection_version(_ROOT),
                **params,
            )
            files = _files(folder, study)
            if not self._task.check_mode:
                _refuse_no_runs(study)
                write_whole(files)
                # A table within a task's result would be quoted and wrapped.
                self._display.display("\n{0}\n".format(terminal_table(study)))
                self._display.display("\n".join(files))
        except (KeepaliveError, OSError) as error:
            raise AnsibleActionFail(str(error)) from error
        result.update(
            changed=True,
            table=terminal_table(study),
            comparisons=_comparisons(study),
            files=list(files),
        )
        return result


def _files(folder: str, study: Result) -> Dict[str, str]:
    """Return the content of each file by its path."""
    content = {
        "benchmark.json": json.dumps(study, indent=1, ensure_ascii=False) + "\n",
        "benchmark.md": markdown_report(study),
        "benchmark.html": html_report(study),
    }
    return {os.path.join(folder, name): text for name, text in content.items()}


def _refuse_no_runs(study: Result) -> None:
    if not study["runs"]:
        raise KeepaliveError("hosts: none has a run, so there is nothing to report")


def _comparisons(study: Result) -> List[Dict[str, Any]]:
    return [
        {"host": name, **comparison}
        for name, host in study["hosts"].items()
        for comparison in host["comparisons"]
    ]


def collection_version(root: str) -> str:
    """Return the version of the collection in ``root``, installed or a checkout."""
    manifest = os.path.join(root, "MANIFEST.json")
    if os.path.exists(manifest):
        with open(manifest, encoding="utf-8") as file:
            return str(json.load(file)["collection_info"]["version"])
    with open(os.path.join(root, "galaxy.yml"), encoding="utf-8") as file:
        return str(yaml.safe_load(file)["version"])
