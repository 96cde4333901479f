# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Dict, NoReturn, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    ConfigFile,
    find_changes,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_replace import (
    Replacement,
)

FILES = [
    ConfigFile("a", b"new a", 0o640),
    ConfigFile("link", b"no link", 0o644),
    ConfigFile("new.d/deep/b", b"b", 0o644),
]
ABSENT = ["gone", "gone_link"]


def snapshot(tree: Path) -> Dict[str, Tuple[int, object]]:
    return {
        str(path.relative_to(tree)): (
            path.lstat().st_mode,
            path.readlink()
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else None,
        )
        for path in tree.rglob("*")
    }


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tmp_path.joinpath("a").write_bytes(b"old a")
    tmp_path.joinpath("a").chmod(0o600)
    tmp_path.joinpath("gone").write_bytes(b"gone")
    tmp_path.joinpath("link").symlink_to("a")
    tmp_path.joinpath("gone_link").symlink_to("nowhere")
    return tmp_path


def replacement_in(tree: Path) -> Replacement:
    return Replacement(tree, find_changes(tree, FILES, ABSENT))


def test_changes_are_put_in_place_and_nothing_is_left_beside(tree: Path) -> None:
    replacement = replacement_in(tree)
    replacement.put()
    replacement.discard()
    assert find_changes(tree, FILES, ABSENT) == []
    assert snapshot(tree).keys() == {"a", "link", "new.d", "new.d/deep", "new.d/deep/b"}


def test_restore_brings_back_content_mode_links_and_directories(tree: Path) -> None:
    before = snapshot(tree)
    replacement = replacement_in(tree)
    replacement.put()
    replacement.restore()
    replacement.discard()
    assert snapshot(tree) == before


@pytest.mark.parametrize("step", ["fsync", "link", "replace", "unlink"])
@pytest.mark.parametrize("calls_before_failure", [0, 1])
def test_a_failure_at_any_step_leaves_the_old_files(
    tree: Path, monkeypatch: pytest.MonkeyPatch, step: str, calls_before_failure: int
) -> None:
    before = snapshot(tree)
    replacement = replacement_in(tree)
    owner = Path if step in ("replace", "unlink") else os
    real = getattr(owner, step)
    calls = []

    def fail_once(*args: object, **kwargs: object) -> object:
        # Path.unlink also clears away what is not there; only count real removals.
        if step != "unlink" or not kwargs:
            calls.append(args)
            if len(calls) == calls_before_failure + 1:
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, step, fail_once)
    with pytest.raises(OSError, match="No space left"):
        replacement.put()
    assert snapshot(tree) == before


def test_what_a_killed_run_left_beside_is_no_obstacle(tree: Path) -> None:
    (tree / ".keepalive_fastapi.a.new").write_text("half")
    (tree / ".keepalive_fastapi.a.old").write_text("older")
    replacement = replacement_in(tree)
    replacement.put()
    replacement.restore()
    replacement.discard()
    assert (tree / "a").read_bytes() == b"old a"


def test_old_content_that_cannot_be_put_back_is_kept_and_named(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system")

    replacement = replacement_in(tree)
    replacement.put()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(KeepaliveError, match=r"a, kept as .*\.a\.old"):
            replacement.restore()
    replacement.discard()
    assert (tree / ".keepalive_fastapi.a.old").read_bytes() == b"old a"
