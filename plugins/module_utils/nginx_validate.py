# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test an nginx configuration as a whole before it is put in place."""

from __future__ import annotations

import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    Change,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_ports import (
    refuse_taken_ports,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_replace import (
    Replacement,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner

UNTOUCHED = "the configuration in force is untouched"
_MOUNT_FAILED = 96
_WORDS = re.compile(r"[\s;]+")
_CONFLICT = re.compile(r'conflicting server name "([^"]+)"')
# A configuration names its own files by absolute paths, so it is only tested
# truly where it will be: the staged tree is mounted over the real one, in a
# mount namespace that nginx alone sees.
_TEST_SCRIPT = 'mount --bind "$1" "$2" || exit {0}; shift 2; exec "$@"'.format(
    _MOUNT_FAILED
)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KeepaliveError(
            "cannot {0}: {1}; {2}".format(doing, error, UNTOUCHED)
        ) from error


def _require_directory(config_dir: Path) -> None:
    if not config_dir.is_absolute() or not config_dir.is_dir():
        raise KeepaliveError(
            "config_dir: {0} is not the absolute path of a directory; install nginx "
            "first, or name its directory".format(config_dir)
        )


def _stage(config_dir: Path, changes: Sequence[Change], stage: Path) -> None:
    shutil.copytree(config_dir, stage, symlinks=True)
    staged = Replacement(stage, changes)
    staged.put()
    staged.discard()


def _test_staged(
    run: Runner, nginx: str, stage: Path, config_dir: Path
) -> Tuple[str, List[str]]:
    """Run ``nginx -T`` on ``stage`` as if it were ``config_dir``.

    Return the configuration it dumps, and its warnings. Raises KeepaliveError
    with nginx's own message.
    """
    script = ["sh", "-c", _TEST_SCRIPT, "sh", str(stage), str(config_dir)]
    test = [nginx, "-T", "-c", str(config_dir / "nginx.conf")]
    status, out, err = run(
        ["unshare", "--mount", "--propagation", "private", *script, *test]
    )
    if status == _MOUNT_FAILED or (status != 0 and err.startswith("unshare:")):
        raise KeepaliveError(
            "cannot test the nginx configuration in a mount namespace of its own, "
            "for which root needs CAP_SYS_ADMIN (become: true; a container must be "
            "given it): {0}; {1}".format(err.strip(), UNTOUCHED)
        )
    if status != 0:
        raise KeepaliveError(
            "nginx rejects the configuration; {0}. It said:\n{1}".format(
                UNTOUCHED, err.strip() or out.strip()
            )
        )
    return out, [line for line in err.splitlines() if "[warn]" in line]


def _refuse_conflicts(warnings: Sequence[str], changes: Sequence[Change]) -> None:
    """Refuse a change that names a site that another file names too.

    nginx only warns: the file whose name sorts first gets all requests, be it
    the new one or the one that serves now.
    """
    words = {
        word
        for change in changes
        for word in _WORDS.split((change.after or b"").decode(errors="replace"))
    }
    for warning in warnings:
        found = _CONFLICT.search(warning)
        if found and found.group(1) in words:
            raise KeepaliveError(
                "the server name {0} is another site's already, and nginx would give "
                "all its requests to one of the two; give each site names of its own "
                "(fastapi_service_server_names); {1}. nginx said:\n{2}".format(
                    found.group(1), UNTOUCHED, warning
                )
            )


@contextmanager
def _no_new_logs(log_dir: Path) -> Iterator[None]:
    """Remove the empty log files that a test of the configuration makes."""
    before = set(log_dir.glob("*"))
    try:
        yield
    finally:
        for path in set(log_dir.glob("*")) - before:
            with suppress(OSError):
                if path.is_file() and path.stat().st_size == 0:
                    path.unlink()


def validate(
    config_dir: Path,
    changes: Sequence[Change],
    *,
    nginx: str,
    scratch_dir: str,
    log_dir: Path,
    proc: Path,
    run: Runner,
) -> List[str]:
    """Try the changes on a copy of the tree; return nginx's warnings.

    Raises KeepaliveError if nginx rejects them, or cannot have a port of theirs.
    """
    _require_directory(config_dir)
    with explained("stage the nginx configuration"):
        scratch = tempfile.mkdtemp(prefix="nginx_config_", dir=scratch_dir)
    try:
        stage = Path(scratch, "stage")
        with explained("stage the nginx configuration"):
            _stage(config_dir, changes, stage)
        with _no_new_logs(log_dir):
            dump, warnings = _test_staged(run, nginx, stage, config_dir)
        _refuse_conflicts(warnings, changes)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    try:
        refuse_taken_ports(dump, proc)
    except KeepaliveError as error:
        raise KeepaliveError("{0}; {1}".format(error, UNTOUCHED)) from error
    return warnings
