# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of files in a configuration directory: check and compare."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

PENDING_MARKER = ".keepalive_fastapi.pending"
CONFIG_DIR = Path("/etc/nginx")
# Of a file for which the task names none.
USUAL_MODE = 0o644
_MODE = re.compile(r"0[0-7]{3}")


@dataclass(frozen=True)
class ConfigFile:
    """What a file relative to the configuration directory shall be."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class Change:
    """One file that differs. ``after`` is None where it is to go."""

    path: str
    before: Optional[bytes]
    before_is: str
    after: Optional[bytes]
    mode: int = 0

    def diff(self, tree: Path) -> Dict[str, str]:
        """Return the change as Ansible shows differences."""
        full = tree / self.path
        after_is = "absent" if self.after is None else "mode {0:04o}".format(self.mode)
        return {
            "before": (self.before or b"").decode("utf-8", "replace"),
            "after": (self.after or b"").decode("utf-8", "replace"),
            "before_header": "{0} ({1})".format(full, self.before_is),
            "after_header": "{0} ({1})".format(full, after_is),
        }


def _relative(path: str, option: str) -> str:
    parts = PurePosixPath(path).parts
    if (
        not parts
        or ".." in parts
        or not path.isprintable()
        or str(PurePosixPath(*parts)) != path
        or path.startswith("/")
        or path == PENDING_MARKER
    ):
        raise KeepaliveError(
            "{0}: {1!r} is not the path of a file below config_dir; write it "
            "without a leading '/', without '.' and '..', as in "
            "conf.d/shop.conf".format(option, path)
        )
    return path


def _config_file(entry: Mapping[str, Any]) -> ConfigFile:
    path = _relative(entry["path"], "files")
    if not _MODE.fullmatch(entry["mode"]):
        raise KeepaliveError(
            "files: mode {0!r} of {1} is not an octal mode; write it in quotes and "
            'with a leading zero, as in "0644"'.format(entry["mode"], path)
        )
    try:
        content = entry["content"].encode("utf-8")
    except UnicodeEncodeError as error:
        raise KeepaliveError(
            "files: the content of {0} is not UTF-8: {1}".format(path, error)
        ) from error
    return ConfigFile(path, content, int(entry["mode"], 8))


def parse_files(entries: Sequence[Mapping[str, Any]]) -> List[ConfigFile]:
    return [_config_file(entry) for entry in entries]


def parse_absent(paths: Sequence[str], files: Sequence[ConfigFile]) -> List[str]:
    """Check the paths to remove; raise if a path of either kind is named twice."""
    absent = [_relative(path, "absent") for path in paths]
    named = [file.path for file in files] + absent
    twice = sorted({path for path in named if named.count(path) > 1})
    if twice:
        raise KeepaliveError(
            "files and absent: named more than once: {0}; name each path once".format(
                ", ".join(twice)
            )
        )
    return absent


def _refuse_linked_parent(tree: Path, path: str) -> None:
    # A linked directory leads out of the tree that is staged and validated.
    for parent in PurePosixPath(path).parents:
        if (tree / parent).is_symlink() and parent.parts:
            raise KeepaliveError(
                "{0}: {1} is a symbolic link; name the file by a path below "
                "config_dir that passes no link".format(path, tree / parent)
            )


def _status(tree: Path, path: str) -> Optional[os.stat_result]:
    _refuse_linked_parent(tree, path)
    try:
        status = (tree / path).lstat()
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise KeepaliveError(
            "{0}: a directory of it is a file in {1}; remove or rename one of "
            "them".format(path, tree)
        ) from None
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        raise KeepaliveError(
            "{0} is neither a file nor a symbolic link; choose another path, or "
            "remove it yourself".format(tree / path)
        )
    return status


def _difference(
    tree: Path, path: str, after: Optional[bytes], mode: int
) -> Optional[Change]:
    status = _status(tree, path)
    if status is None:
        return None if after is None else Change(path, None, "absent", after, mode)
    full = tree / path
    if stat.S_ISLNK(status.st_mode):
        link = "link to {0}".format(full.readlink())
        before = full.read_bytes() if full.is_file() else b""
        return Change(path, before, link, after, mode)
    before = full.read_bytes()
    before_mode = stat.S_IMODE(status.st_mode)
    if before == after and before_mode == mode:
        return None
    return Change(path, before, "mode {0:04o}".format(before_mode), after, mode)


def find_changes(
    tree: Path, files: Sequence[ConfigFile], absent: Sequence[str]
) -> List[Change]:
    """Return what in ``tree`` differs. A symbolic link is never the file wanted."""
    wanted = [_difference(tree, each.path, each.content, each.mode) for each in files]
    unwanted = [_difference(tree, path, None, 0) for path in absent]
    return [change for change in wanted + unwanted if change is not None]


def settled_sha256(path: Path, config_dir: Path = CONFIG_DIR) -> str:
    """Return the checksum of a file that needs nothing done unless its text differs.

    Empty if it is not there, is a link or has another mode, or nginx is still to
    reload.
    """
    try:
        is_usual = path.lstat().st_mode == stat.S_IFREG | USUAL_MODE
    except FileNotFoundError:
        return ""
    if not is_usual or (config_dir / PENDING_MARKER).exists():
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()
