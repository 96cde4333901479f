# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to keep two runs on one host apart."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import BinaryIO, Callable, Iterator

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    BusyError,
)

POLL_S = 0.1


@contextlib.contextmanager
def exclusive(
    path: Path,
    held: str,
    *,
    timeout_s: float = 0.0,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock ``path`` (flock(2)): the kernel frees it if its holder dies.

    Raises BusyError(``held``) if somebody else holds it for longer than
    ``timeout_s`` seconds, OSError if it cannot be opened. Its folder is made; a
    symbolic link is not followed. What is written under it has the mode it is
    given, for the umask is 022 meanwhile: a service must be able to read what
    root writes.
    """
    umask = os.umask(0o022)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
            _wait(stream, held, now() + timeout_s, now, sleep)
            yield
    finally:
        os.umask(umask)


def _wait(
    stream: BinaryIO,
    held: str,
    give_up: float,
    now: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if now() >= give_up:
                raise BusyError(held) from None
        else:
            return
        sleep(POLL_S)
