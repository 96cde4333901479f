# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replace files of the nginx configuration as one step that works or is undone."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.lock import exclusive
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    PENDING_MARKER,
    Change,
    ConfigFile,
    find_changes,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_reload import (
    find_master,
    reload_workers,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_replace import (
    Replacement,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_validate import (
    UNTOUCHED,
    explained,
    validate,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner

_LOCK_TIMEOUT_S = 60.0
_MARKER_TEXT = (
    "Files here were changed by keepalive.fastapi.nginx_config, and nginx has not\n"
    "yet been seen to reload. The next run reloads it and removes this file.\n"
)


@dataclass(frozen=True)
class Request:
    """What the task asks for."""

    files: Sequence[ConfigFile]
    absent: Sequence[str]
    config_dir: Path
    reload: bool
    reload_timeout_s: int
    validate_in_check_mode: bool = True


@dataclass(frozen=True)
class Host:
    """Where things are on the host. ``nginx`` is None where it is missing."""

    nginx: Optional[str]
    scratch_dir: str
    proc: Path = Path("/proc")
    pid_file: Path = Path("/run/nginx.pid")
    error_log: Path = Path("/var/log/nginx/error.log")
    lock_file: Path = Path("/run/keepalive-nginx.lock")


@dataclass
class Outcome:
    """What the module returns, and ``warnings``, which Ansible takes apart."""

    changed: bool = False
    diff: List[Dict[str, str]] = field(default_factory=list)
    files: List[str] = field(default_factory=list)
    removed: List[str] = field(default_factory=list)
    validated: bool = False
    applied: bool = False
    reloaded: bool = False
    seconds_to_reload: Optional[float] = None
    nginx_version: Optional[str] = None
    warnings: List[str] = field(default_factory=list)

    def as_result(self) -> Dict[str, object]:
        result = asdict(self)
        del result["warnings"]
        return result


def find_nginx(binary: str) -> Optional[str]:
    """Find nginx; ``/usr/sbin`` is often missing from the PATH of a login."""
    return shutil.which(
        binary, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    )


def installed_version(nginx: Optional[str], run: Runner) -> Optional[str]:
    """Return the version of the nginx program at this path; None without one."""
    if nginx is None:
        return None
    _status, out, err = run([nginx, "-v"])
    return parse_version(err or out)


def parse_version(text: str) -> Optional[str]:
    """Return the version from ``nginx version: nginx/1.26.3 (Ubuntu)``."""
    match = re.search(r"version: [^/\s]+/(\S+)", text)
    return match.group(1) if match else None


@contextmanager
def _exclusive(lock_file: Path) -> Iterator[None]:
    held = (
        "another nginx_config task has held {0} for {1:.0f} s; let it finish, then "
        "run this again; {2}".format(lock_file, _LOCK_TIMEOUT_S, UNTOUCHED)
    )
    with ExitStack() as stack:
        with explained("open the lock {0}".format(lock_file)):
            stack.enter_context(exclusive(lock_file, held, timeout_s=_LOCK_TIMEOUT_S))
        yield


def _reload_or_restore(
    request: Request, host: Host, replacement: Replacement
) -> Optional[float]:
    """Reload nginx if it runs; return the seconds it took."""
    master = find_master(host.pid_file, host.proc)
    if master is None:
        return None
    try:
        return reload_workers(
            master, request.reload_timeout_s, host.error_log, host.proc
        )
    except KeepaliveError as error:
        replacement.restore()
        raise KeepaliveError(
            "{0}\nThe old files are back in place".format(error)
        ) from error
    except BaseException:
        replacement.restore()
        raise


def _put_in_place(
    request: Request, changes: Sequence[Change], host: Host
) -> Optional[float]:
    """Write the changes and reload; on failure put the old files back.

    The marker stays behind a reload that could not be proven, since nginx may
    yet come to serve either configuration.
    """
    marker = request.config_dir / PENDING_MARKER
    owed = marker.exists()
    replacement = Replacement(request.config_dir, changes)
    try:
        with explained("write the nginx configuration"):
            if request.reload:
                marker.write_text(_MARKER_TEXT)
            replacement.put()
    except BaseException:
        if not owed:
            marker.unlink(missing_ok=True)
        raise
    if not request.reload:
        replacement.discard()
        return None
    try:
        seconds = _reload_or_restore(request, host, replacement)
    finally:
        replacement.discard()
    marker.unlink()
    return seconds


def _expected(
    config_dir: Path, changes: Sequence[Change], *, reload_owed: bool
) -> Outcome:
    return Outcome(
        changed=bool(changes) or reload_owed,
        diff=[change.diff(config_dir) for change in changes],
        files=[change.path for change in changes if change.after is not None],
        removed=[change.path for change in changes if change.after is None],
    )


def _configure(
    request: Request, host: Host, run: Runner, *, check_mode: bool
) -> Outcome:
    with explained("read the nginx configuration"):
        changes = find_changes(request.config_dir, request.files, request.absent)
        owed = request.reload and (request.config_dir / PENDING_MARKER).exists()
    outcome = _expected(request.config_dir, changes, reload_owed=owed)
    if host.nginx is None:
        if outcome.changed:
            outcome.warnings.append(
                "nginx is not installed yet, so its configuration was not validated"
            )
        return outcome
    outcome.nginx_version = installed_version(host.nginx, run)
    if not outcome.changed or (check_mode and not request.validate_in_check_mode):
        return outcome
    outcome.warnings = validate(
        request.config_dir,
        changes,
        nginx=host.nginx,
        scratch_dir=host.scratch_dir,
        log_dir=host.error_log.parent,
        proc=host.proc,
        run=run,
    )
    outcome.validated = True
    if not check_mode:
        outcome.seconds_to_reload = _put_in_place(request, changes, host)
        outcome.applied = True
        outcome.reloaded = outcome.seconds_to_reload is not None
    return outcome


def configure(
    request: Request, host: Host, run: Runner, *, check_mode: bool = False
) -> Outcome:
    """Make the files of the configuration what ``request`` says.

    Raises KeepaliveError; the files in force are then what they were.
    """
    if host.nginx is None and not check_mode:
        raise KeepaliveError(
            "binary: nginx was not found on PATH or in /usr/sbin; install it first, "
            "or name its path"
        )
    if request.reload_timeout_s < 1:
        raise KeepaliveError(
            "reload_timeout_s: {0} is too short to see a reload; give at least 1 "
            "second".format(request.reload_timeout_s)
        )
    with nullcontext() if check_mode else _exclusive(host.lock_file):
        return _configure(request, host, run, check_mode=check_mode)
