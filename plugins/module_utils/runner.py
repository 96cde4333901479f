# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How library code runs a command without knowing of AnsibleModule."""

from __future__ import annotations

from typing import Callable, Mapping, Optional, Protocol, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

Result = Tuple[int, str, str]


class Runner(Protocol):
    """Run argv and return (exit status, standard output, standard error)."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Result: ...


def module_runner(run_command: Callable[..., Result]) -> Runner:
    """Adapt ``AnsibleModule.run_command`` to a Runner."""

    def run(
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Result:
        return run_command(
            list(argv), cwd=cwd, environ_update=dict(env) if env else None
        )

    return run


def checked(run: Runner, argv: Sequence[str], failure: str) -> str:
    """Run argv; return its standard output.

    Raises KeepaliveError with ``failure`` and what the command said when it
    exits with another status than 0.
    """
    status, out, err = run(argv)
    if status != 0:
        said = (err or out).strip() or "exit status {0}, no output".format(status)
        raise KeepaliveError("{0}\n{1} said:\n{2}".format(failure, argv[0], said))
    return out
