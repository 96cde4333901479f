# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_request import (
    DEFAULT_EXCLUDE,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_source import (
    EXECUTABLE,
    PLAIN_FILE,
    SYMLINK,
    Entry,
    extract_archive,
    is_excluded,
    list_tree,
    list_wheels,
    tree_digest,
    write_archive,
)
from hypothesis import given
from hypothesis import strategies as st


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def digest_of(root: Path, exclude: tuple[str, ...] = ()) -> str:
    return tree_digest(str(root), list_tree(str(root), exclude))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = write(tmp_path / "src", {"app/main.py": "x = 1\n", "run.sh": "#!/bin/sh\n"})
    (root / "run.sh").chmod(0o755)
    (root / "current").symlink_to("app/main.py")
    return root


def test_tree_is_listed_in_order_with_kinds(source: Path) -> None:
    assert list_tree(str(source), ()) == [
        Entry("app/main.py", PLAIN_FILE),
        Entry("current", SYMLINK, "app/main.py"),
        Entry("run.sh", EXECUTABLE),
    ]


def test_default_exclude_leaves_caches_and_history_out(source: Path) -> None:
    before = digest_of(source, tuple(DEFAULT_EXCLUDE))
    write(
        source,
        {
            ".git/HEAD": "ref",
            "app/__pycache__/main.pyc": "",
            "app/old.pyc": "",
            "web/node_modules/left-pad/index.js": "",
        },
    )
    assert digest_of(source, tuple(DEFAULT_EXCLUDE)) == before
    assert digest_of(source) != before


@pytest.mark.parametrize(
    ("path", "patterns", "expected"),
    [
        ("docs/a.md", ["docs/*"], True),
        ("docs", ["docs/"], True),
        ("a/docs", ["docs"], True),
        ("mydocs", ["docs"], False),
        ("docs.py", ["docs"], False),
    ],
)
def test_is_excluded(path: str, patterns: list[str], expected: bool) -> None:
    assert is_excluded(path, patterns) is expected


def test_times_and_group_permissions_do_not_change_the_digest(source: Path) -> None:
    before = digest_of(source)
    os.utime(source / "run.sh", (1, 1))
    (source / "app/main.py").chmod(0o660)
    assert digest_of(source) == before


@pytest.mark.parametrize("change", ["content", "name", "executable", "symlink"])
def test_every_change_of_content_changes_the_digest(source: Path, change: str) -> None:
    before = digest_of(source)
    main = source / "app/main.py"
    if change == "content":
        main.write_text("x = 2\n")
    elif change == "name":
        main.rename(source / "app/mian.py")
    elif change == "executable":
        main.chmod(0o755)
    else:
        (source / "current").unlink()
        (source / "current").symlink_to("run.sh")
    assert digest_of(source) != before


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "app/../../outside"])
def test_symlink_out_of_the_tree_is_refused(source: Path, target: str) -> None:
    (source / "leak").symlink_to(target)
    with pytest.raises(KeepaliveError, match=r"symlink leak points to .*outside"):
        list_tree(str(source), ())


def test_symlink_that_leaves_through_another_symlink_is_refused(source: Path) -> None:
    (source / "app/top").symlink_to("..")
    (source / "leak").symlink_to("app/top/../secret")
    with pytest.raises(KeepaliveError, match="symlink leak"):
        list_tree(str(source), ())


def test_excluded_symlink_may_point_anywhere(source: Path) -> None:
    (source / "leak").symlink_to("/etc/passwd")
    assert "leak" not in {e.path for e in list_tree(str(source), ["leak"])}


def test_fifo_is_refused(source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(KeepaliveError, match=r"pipe .*source_exclude"):
        list_tree(str(source), ())


def test_missing_and_empty_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeepaliveError, match="is not a directory"):
        list_tree(str(tmp_path / "none"), ())
    write(tmp_path, {"a.pyc": ""})
    with pytest.raises(KeepaliveError, match="holds no file"):
        list_tree(str(tmp_path), DEFAULT_EXCLUDE)


def test_wheels_are_listed_and_their_absence_refused(tmp_path: Path) -> None:
    write(tmp_path, {"README": "no wheel"})
    with pytest.raises(KeepaliveError, match="holds no wheel"):
        list_wheels(str(tmp_path))
    write(tmp_path, {"b.whl": "", "a.whl": ""})
    assert [entry.path for entry in list_wheels(str(tmp_path))] == ["a.whl", "b.whl"]


def test_archive_carries_the_tree_to_another_place(
    source: Path, tmp_path: Path
) -> None:
    entries = list_tree(str(source), ())
    write_archive(str(source), entries, str(tmp_path / "a.tar.gz"))
    extract_archive(str(tmp_path / "a.tar.gz"), str(tmp_path / "out"))
    assert list_tree(str(tmp_path / "out"), ()) == entries
    assert digest_of(tmp_path / "out") == digest_of(source)


def test_archive_bytes_depend_on_content_only(source: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"
    write_archive(str(source), list_tree(str(source), ()), str(first))
    os.utime(source / "run.sh", (1, 1))
    write_archive(str(source), list_tree(str(source), ()), str(second))
    assert first.read_bytes() == second.read_bytes()


def test_unpacked_files_are_as_new_as_the_release(source: Path, tmp_path: Path) -> None:
    """A constant time would keep ETags, and so browsers' caches, across releases."""
    archive = tmp_path / "a.tar.gz"
    write_archive(str(source), list_tree(str(source), ()), str(archive))
    extract_archive(str(archive), str(tmp_path / "out"))
    unpacked_at = (tmp_path / "out/run.sh").stat().st_mtime
    assert unpacked_at >= int(archive.stat().st_mtime)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("/etc/cron.d/x")],
        [member("../x")],
        [member("a/../../x")],
        [member("a", tarfile.SYMTYPE, "/etc")],
        [member("a/b", tarfile.SYMTYPE, "../../etc")],
        [member("a", tarfile.SYMTYPE, "b"), member("a/x")],
        [member("a", tarfile.LNKTYPE, "/etc/passwd")],
        [member("a", tarfile.CHRTYPE)],
    ],
)
def test_hostile_archive_is_refused_as_a_whole(
    tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    archive = tmp_path / "a.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for info in [member("harmless"), *members]:
            tar.addfile(info, io.BytesIO())
    with pytest.raises(KeepaliveError, match="leads outside the release"):
        extract_archive(str(archive), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_truncated_archive_is_reported(source: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    write_archive(str(source), list_tree(str(source), ()), str(archive))
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(KeepaliveError, match="did not arrive whole"):
        extract_archive(str(archive), str(tmp_path / "out"))


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT))
def test_digests_are_equal_for_equal_links_only(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    first = tree_digest("/", [Entry(one[0], SYMLINK, one[1])])
    second = tree_digest("/", [Entry(other[0], SYMLINK, other[1])])
    assert (first == second) == (one == other)
