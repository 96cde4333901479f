# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to a tree of files, put in place together and taken back together."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import List, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    Change,
)


class Replacement:
    """Changes put in place together, and taken back together.

    Everything that needs room is written first, beside its target. After that
    come renames only, both here and in ``restore``, so that a full disk cannot
    leave half of the changes behind. Names begin with a dot, which nginx's
    ``include *`` does not match.
    """

    def __init__(self, tree: Path, changes: Sequence[Change]) -> None:
        self._tree = tree
        self._changes = changes
        self._made: List[Path] = []
        self._swapped: List[Change] = []
        self._stranded: List[Tuple[Change, OSError]] = []

    def put(self) -> None:
        """Put all changes in place; on any failure, none."""
        try:
            for change in self._changes:
                self._write_beside(change)
            for change in self._changes:
                self._swap(change)
        except BaseException:
            try:
                self.restore()
            finally:
                self.discard()
            raise

    def restore(self) -> None:
        """Put back what was there before ``put``.

        Raises KeepaliveError naming what could not be put back, and where the
        old content is kept.
        """
        while self._swapped:
            change = self._swapped.pop()
            try:
                if change.before is None:
                    (self._tree / change.path).unlink(missing_ok=True)
                else:
                    self._beside(change, "old").replace(self._tree / change.path)
            except OSError as error:
                self._stranded.append((change, error))
        if self._stranded:
            raise KeepaliveError(
                "could not put back the old files: {0}; put them back by hand".format(
                    ", ".join(
                        "{0}, kept as {1} ({2})".format(
                            change.path, self._beside(change, "old"), error
                        )
                        for change, error in self._stranded
                    )
                )
            )

    def discard(self) -> None:
        """Remove what is kept for ``restore``, and directories left empty."""
        stranded = [change for change, _error in self._stranded]
        for change in self._changes:
            self._beside(change, "new").unlink(missing_ok=True)
            if change not in stranded:
                self._beside(change, "old").unlink(missing_ok=True)
        for directory in reversed(self._made):
            if not any(directory.iterdir()):
                directory.rmdir()

    def _beside(self, change: Change, suffix: str) -> Path:
        full = self._tree / change.path
        return full.with_name(".keepalive_fastapi.{0}.{1}".format(full.name, suffix))

    def _write_beside(self, change: Change) -> None:
        if change.after is None:
            return
        self._make_parents(change.path)
        new = self._beside(change, "new")
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(change.after)
            file.flush()
            os.fchmod(file.fileno(), change.mode)
            os.fsync(file.fileno())

    def _make_parents(self, path: str) -> None:
        for parent in reversed(PurePosixPath(path).parents):
            directory = self._tree / parent
            if not directory.exists():
                directory.mkdir(mode=0o755)
                self._made.append(directory)

    def _swap(self, change: Change) -> None:
        full = self._tree / change.path
        if change.before is not None:
            old = self._beside(change, "old")
            old.unlink(missing_ok=True)
            os.link(full, old, follow_symlinks=False)
        self._swapped.append(change)
        if change.after is None:
            full.unlink()
        else:
            self._beside(change, "new").replace(full)
