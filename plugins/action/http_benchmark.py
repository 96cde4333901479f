# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of http_benchmark: tells how much of a long run has passed."""

from __future__ import annotations

from typing import Any, Dict, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.progress import (
    telling_time,
)

_MODULE = "keepalive.fastapi.http_benchmark"


class ActionModule(ActionBase):  # type: ignore[misc]
    """The module as it is, with a line on the terminal every ten seconds."""

    _supports_check_mode = True
    _supports_async = True

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Run the module on the target."""
        super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "the host")
        url = self._task.args.get("url", "")

        def say(seconds: int) -> None:
            self._display.display(
                "http_benchmark on {0}: {1}, {2} s passed".format(host, url, seconds)
            )

        with telling_time(say):
            result: Dict[str, Any] = self._execute_module(
                module_name=_MODULE,
                task_vars=task_vars,
                wrap_async=bool(self._task.async_val),
            )
        return result
