# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that answers as it is told to."""

from __future__ import annotations

from typing import List, Mapping, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Result


class Command:
    """A Runner that answers with one result and keeps what it was asked."""

    def __init__(self, status: int = 0, out: str = "", err: str = "") -> None:
        self.result = (status, out, err)
        self.asked: List[List[str]] = []

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Result:
        assert cwd is None
        assert env is None
        self.asked.append(list(argv))
        return self.result
