# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Dict, List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    ConfigFile,
    find_changes,
    parse_absent,
    parse_files,
)


def entry(path: str, content: str = "x", mode: str = "0644") -> Dict[str, str]:
    return {"path": path, "content": content, "mode": mode}


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "/etc/passwd",
        "../passwd",
        "a/../../b",
        "./a",
        "a//b",
        "a/",
        "a\nb",
        "a\0",
        ".keepalive_fastapi.pending",
    ],
)
def test_paths_that_leave_the_directory_are_refused(path: str) -> None:
    with pytest.raises(KeepaliveError, match="files"):
        parse_files([entry(path)])
    with pytest.raises(KeepaliveError, match="absent"):
        parse_absent([path], [])


@pytest.mark.parametrize("mode", ["644", "420", "0o644", "u=rw", "0888", "04755"])
def test_modes_are_four_octal_digits(mode: str) -> None:
    with pytest.raises(KeepaliveError, match="mode"):
        parse_files([entry("a", mode=mode)])


def test_content_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(KeepaliveError, match="UTF-8"):
        parse_files([entry("a", content="\udcff")])


def test_a_path_named_twice_is_refused() -> None:
    files = parse_files([entry("a"), entry("b")])
    with pytest.raises(KeepaliveError, match="more than once: b;"):
        parse_absent(["b"], files)
    with pytest.raises(KeepaliveError, match="more than once: a;"):
        parse_absent([], files + files[:1])


def changed(tree: Path, files: List[ConfigFile], absent: List[str]) -> List[str]:
    return [change.path for change in find_changes(tree, files, absent)]


def test_content_and_mode_are_compared(tmp_path: Path) -> None:
    for name in ("same", "content", "mode", "gone"):
        tmp_path.joinpath(name).write_text("x")
        tmp_path.joinpath(name).chmod(0o644)
    files = parse_files(
        [
            entry("same"),
            entry("content", content="y"),
            entry("mode", mode="0600"),
            entry("conf.d/new"),
        ]
    )
    assert changed(tmp_path, files, ["gone", "never/was"]) == [
        "content",
        "mode",
        "conf.d/new",
        "gone",
    ]


def test_the_diff_shows_content_and_mode(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old \xff\n")
    (tmp_path / "a").chmod(0o600)
    (change,) = find_changes(tmp_path, parse_files([entry("a", "new\n")]), [])
    assert change.diff(tmp_path) == {
        "before": "old \ufffd\n",
        "after": "new\n",
        "before_header": "{0}/a (mode 0600)".format(tmp_path),
        "after_header": "{0}/a (mode 0644)".format(tmp_path),
    }


def test_a_link_is_not_the_file_wanted(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    (tmp_path / "target").chmod(0o644)
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "dangling").symlink_to("nowhere")
    files = parse_files([entry("link")])
    link, dangling = find_changes(tmp_path, files, ["dangling"])
    assert link.diff(tmp_path)["before_header"].endswith("(link to target)")
    assert dangling.before == b""
    assert dangling.diff(tmp_path)["after_header"].endswith("(absent)")


def test_a_path_through_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "conf.d").symlink_to(tmp_path / "outside")
    for files, absent in (
        (parse_files([entry("conf.d/a")]), []),
        ([], ["conf.d/a"]),
    ):
        with pytest.raises(KeepaliveError, match="symbolic link"):
            find_changes(tmp_path / "tree", files, absent)


def test_the_tree_itself_may_be_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "tree").symlink_to("real")
    assert changed(tmp_path / "tree", parse_files([entry("a")]), []) == ["a"]


def test_directories_in_the_way_are_refused(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(KeepaliveError, match="neither a file"):
        find_changes(tmp_path, [], ["conf.d"])
    with pytest.raises(KeepaliveError, match="is a file"):
        find_changes(tmp_path, parse_files([entry("file/a")]), [])
