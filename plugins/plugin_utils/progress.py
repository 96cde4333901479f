# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the person who waits know that something goes on, and for how long."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any, Callable, Dict, Iterator, Optional

from ansible.plugins.action import ActionBase

EVERY_S = 10.0


@contextlib.contextmanager
def telling_time(
    say: Callable[[int], None], every_s: float = EVERY_S
) -> Iterator[None]:
    """Call ``say`` with the seconds that have passed, each ``every_s`` seconds."""
    ended, begun = threading.Event(), time.monotonic()

    def run() -> None:
        while not ended.wait(every_s):
            say(round(time.monotonic() - begun))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class TellingAction(ActionBase):  # type: ignore[misc]
    """Runs ``module`` of this collection on the target, and tells the time."""

    _supports_check_mode = True
    _supports_async = True
    module = ""

    def subject(self) -> str:
        """Return what the module is busy with."""
        raise NotImplementedError

    def run(
        self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Run the module on the target."""
        super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "the host")

        def say(seconds: int) -> None:
            self._display.display(
                "{0} on {1}: {2}, {3} s passed".format(
                    self.module, host, self.subject(), seconds
                )
            )

        with telling_time(say):
            result: Dict[str, Any] = self._execute_module(
                module_name="keepalive.fastapi." + self.module,
                task_vars=task_vars,
                wrap_async=bool(self._task.async_val),
            )
        return result
