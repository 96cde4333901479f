# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source tree as content: listed, hashed, packed and unpacked.

The controller hashes and packs; the target unpacks and hashes again. Both must
agree to the byte, so both use this module.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import os
import posixpath
import stat
import tarfile
import time
import zlib
from dataclasses import dataclass
from typing import Iterator, List, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

PLAIN_FILE = "file"
EXECUTABLE = "executable"
SYMLINK = "symlink"

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A file or symlink of a tree; ``path`` is relative, with forward slashes."""

    path: str
    kind: str
    target: str = ""


def list_tree(root: str, exclude: Sequence[str]) -> List[Entry]:
    """Return the files and symlinks under root, sorted by path.

    Empty directories are no content. Raises KeepaliveError when root is no
    directory or holds nothing, when a symlink leaves it, and for what is
    neither file, directory nor symlink.
    """
    if not os.path.isdir(root):
        raise KeepaliveError(
            "fastapi_service_source_path: {0} is not a directory on the controller; "
            "correct the path.".format(root)
        )
    entries = sorted(_walk(root, "", exclude), key=lambda entry: entry.path)
    if not entries:
        raise KeepaliveError(
            "fastapi_service_source_path: {0} holds no file that "
            "fastapi_service_source_exclude leaves in.".format(root)
        )
    return entries


def list_wheels(directory: str) -> List[Entry]:
    """Return the wheels directly inside directory, sorted by name.

    Raises KeepaliveError when there is none.
    """
    if not os.path.isdir(directory):
        raise KeepaliveError(
            "fastapi_service_wheel_dir: {0} is not a directory on the "
            "controller.".format(directory)
        )
    names = sorted(name for name in os.listdir(directory) if name.endswith(".whl"))
    if not names:
        raise KeepaliveError(
            "fastapi_service_wheel_dir: {0} holds no wheel. Fill it with: pip wheel "
            "--wheel-dir {0} "
            "-r requirements.txt".format(directory)
        )
    return [Entry(name, PLAIN_FILE) for name in names]


def is_excluded(path: str, exclude: Sequence[str]) -> bool:
    """Tell whether a pattern matches the relative path or its last component."""
    name = posixpath.basename(path)
    return any(
        fnmatch.fnmatchcase(candidate, pattern.rstrip("/"))
        for pattern in exclude
        for candidate in (path, name)
    )


def _walk(root: str, parent: str, exclude: Sequence[str]) -> Iterator[Entry]:
    with os.scandir(os.path.join(root, parent)) as listing:
        found = list(listing)
    for item in found:
        path = posixpath.join(parent, item.name)
        if is_excluded(path, exclude):
            continue
        if item.is_dir(follow_symlinks=False):
            yield from _walk(root, path, exclude)
        else:
            yield _entry(root, path, item.stat(follow_symlinks=False).st_mode)


def _entry(root: str, path: str, mode: int) -> Entry:
    if stat.S_ISLNK(mode):
        target = os.readlink(os.path.join(root, path))
        if not _stays_inside(root, path, target):
            raise KeepaliveError(
                "fastapi_service_source_path: the symlink {0} points to {1}, outside "
                "{2}. Replace it "
                "with a relative one that stays inside, or add it to "
                "source_exclude.".format(path, target, root)
            )
        return Entry(path, SYMLINK, target)
    if not stat.S_ISREG(mode):
        raise KeepaliveError(
            "fastapi_service_source_path: {0} in {1} is neither file, directory nor "
            "symlink; add it "
            "to source_exclude.".format(path, root)
        )
    return Entry(path, EXECUTABLE if mode & stat.S_IXUSR else PLAIN_FILE)


def _stays_inside(root: str, path: str, target: str) -> bool:
    """Check a symlink by its text (it must hold elsewhere too) and in fact.

    The text alone is not enough: ``a/..`` leads elsewhere when a is a symlink.
    """
    real_root = os.path.realpath(root)
    real_target = os.path.realpath(os.path.join(root, path))
    inside = os.path.commonpath([real_root, real_target]) == real_root
    return inside and _is_inside_by_text(path, target)


def _is_inside_by_text(path: str, target: str) -> bool:
    if posixpath.isabs(target):
        return False
    resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return resolved.split("/", 1)[0] != ".."


def file_digest(path: str) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        for chunk in iter(lambda: content.read(_CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def tree_digest(root: str, entries: Sequence[Entry]) -> str:
    """Return the SHA-256 over kind, path and content of all entries.

    Owner, group, times and mode bits other than the owner's executable bit stay
    out: two checkouts of one commit must give one release.
    """
    digest = hashlib.sha256()
    for entry in entries:
        is_link = entry.kind == SYMLINK
        content = (
            entry.target if is_link else file_digest(os.path.join(root, entry.path))
        )
        # NUL cannot occur in a path, so no two trees share one byte stream.
        for field in (entry.kind, entry.path, content):
            digest.update(os.fsencode(field) + b"\0")
    return digest.hexdigest()


def write_archive(root: str, entries: Sequence[Entry], archive: str) -> None:
    """Pack entries into a .tar.gz whose bytes depend on their content only."""
    with (
        open(archive, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for entry in entries:
            _add(tar, root, entry)


def _add(tar: tarfile.TarFile, root: str, entry: Entry) -> None:
    info = tarfile.TarInfo(entry.path)
    info.mode = 0o755 if entry.kind == EXECUTABLE else 0o644
    if entry.kind == SYMLINK:
        info.type = tarfile.SYMTYPE
        info.linkname = entry.target
        tar.addfile(info)
        return
    with open(os.path.join(root, entry.path), "rb") as content:
        info.size = os.fstat(content.fileno()).st_size
        tar.addfile(info, content)


def extract_archive(archive: str, destination: str) -> None:
    """Unpack an archive that write_archive made into destination.

    Raises KeepaliveError when the archive is damaged, and with nothing unpacked
    when a member would land or lead outside destination.
    """
    try:
        _extract(archive, destination)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise KeepaliveError(
            "The archive {0} did not arrive whole ({1}); run again.".format(
                archive, error
            )
        ) from error


def _extract(archive: str, destination: str) -> None:
    # Frameworks derive ETag and Last-Modified from a file's time. Were it the
    # same in every release, browsers would keep the files of the old one.
    now = int(time.time())
    with tarfile.open(archive, "r:gz") as tar:
        members = tar.getmembers()
        _refuse_unsafe(members)
        tar.extraction_filter = getattr(
            tarfile, "data_filter", lambda member, _path: member
        )
        for member in members:
            member.mtime = now
            tar.extract(member, destination)


def _refuse_unsafe(members: Sequence[tarfile.TarInfo]) -> None:
    """Do what ``filter="data"`` does where Python is too old to have it."""
    symlinks = {member.name for member in members if member.issym()}
    for member in members:
        parts = member.name.split("/")
        parents = {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        link_leaves = member.issym() and not _is_inside_by_text(
            member.name, member.linkname
        )
        if (
            posixpath.isabs(member.name)
            or ".." in parts
            or not (member.isreg() or member.issym())
            or link_leaves
            or parents & symlinks
        ):
            raise KeepaliveError(
                "The archive's member {0} leads outside the release; it was not made "
                "by this collection. Nothing was unpacked.".format(member.name)
            )
