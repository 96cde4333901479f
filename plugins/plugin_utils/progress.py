# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let the person who waits know that something goes on, and for how long."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, Iterator

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
