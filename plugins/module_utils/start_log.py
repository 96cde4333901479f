# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the log of a service that did not start says of the reason."""

from __future__ import annotations

import re
from typing import List

HEAD_LINES = 30
TAIL_LINES = 5

_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(?:: .*)?\Z")
# Gunicorn raises it after any failure of a worker, whatever the reason.
_CONSEQUENCE = "gunicorn.errors.HaltServer"
_FRAME = re.compile(r'\s+File "([^"]+)"')
_PLUMBING = re.compile(
    r"<frozen |/(?:asyncio|importlib)/"
    r"|/site-packages/(?:fastapi|gunicorn|starlette|uvicorn|uvicorn_worker)/"
)
_RESTART = ": Scheduled restart job"
_STAMP = re.compile(r"^\[[^]]+\] \[\d+\] ")


def causes(log: str) -> List[str]:
    """Return the exceptions that tracebacks in the log end with, once each."""
    found: List[str] = []
    in_traceback = False
    for line in log.splitlines():
        if line.endswith(_TRACEBACK):
            in_traceback = True
        elif in_traceback and not line.startswith(" "):
            in_traceback = False
            known = line in found or line.startswith(_CONSEQUENCE)
            if _EXCEPTION.match(line) and not known:
                found.append(line)
    return found


def excerpt(log: str) -> str:
    """Return the log of the first start, without frames in the server's code.

    A long one is cut in the middle: reasons stand early, Gunicorn's own
    tracebacks and systemd's verdict follow.
    """
    first_start = log.partition(_RESTART)[0]
    lines = _without_repeats(_without_plumbing(first_start.splitlines()))
    left_out = len(lines) - HEAD_LINES - TAIL_LINES
    if left_out > 0:
        mark = "(and {0} lines more)".format(left_out)
        lines[HEAD_LINES:-TAIL_LINES] = [mark]
    return "\n".join(lines)


def _without_plumbing(lines: List[str]) -> List[str]:
    kept: List[str] = []
    hidden = False
    for line in lines:
        frame = _FRAME.match(line)
        if frame:
            hidden = _PLUMBING.search(frame.group(1)) is not None
        elif not line.startswith("    "):
            hidden = False
        if not hidden:
            kept.append(line)
    return kept


def _without_repeats(lines: List[str]) -> List[str]:
    """Drop a line that says the same as the one before it, at another time."""
    kept: List[str] = []
    for line in lines:
        if not kept or _STAMP.sub("", line) != _STAMP.sub("", kept[-1]):
            kept.append(line)
    return kept
