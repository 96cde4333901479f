# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The releases of one service on its host: list, build, prune, remove.

``{releases_dir}/{id}/`` holds ``app/``, ``venv/`` and ``release.json``. The marker
is written last and removed first, so a directory with a marker is complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Any,
    ContextManager,
    Dict,
    FrozenSet,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.lock import exclusive
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_build import (
    InputMissingError,
    Interpreter,
    build_release,
    disk_full,
    find_interpreter,
    is_disk_full,
    package_digest,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_request import (
    RELEASE_ID,
    ReleaseRequest,
    release_id,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner

MARKER = "release.json"
_LOCK = ".lock"


@dataclass(frozen=True)
class Release:
    """A complete release. ``sequence`` counts builds; the newest is highest."""

    id: str
    sequence: int
    path: str
    source_kind: str
    package: str
    python_version: str
    packages: Tuple[str, ...]


def venv_python(release_dir: str) -> str:
    """Return the path of the interpreter inside a release directory."""
    return os.path.join(release_dir, "venv", "bin", "python")


def read_marker(release_dir: str) -> Optional[Release]:
    """Return the release in release_dir, None when it is not complete."""
    try:
        with open(os.path.join(release_dir, MARKER), encoding="utf-8") as file:
            marker = json.load(file)
        release = Release(
            id=marker["id"],
            sequence=int(marker["sequence"]),
            path=release_dir,
            source_kind=marker["source_kind"],
            package=marker["package"],
            python_version=marker["python_version"],
            packages=tuple(marker["packages"]),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    return release if release.id == os.path.basename(release_dir) else None


def write_marker(release: Release) -> None:
    """Declare the release complete, durably."""
    marker = {
        "id": release.id,
        "sequence": release.sequence,
        "source_kind": release.source_kind,
        "package": release.package,
        "python_version": release.python_version,
        "packages": list(release.packages),
    }
    # After a power cut the marker must not outlive files that it vouches for.
    os.sync()
    path = os.path.join(release.path, MARKER)
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(marker, file, indent=2, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)
    directory = os.open(release.path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _release_dirs(releases_dir: Union[str, os.PathLike[str]]) -> List[str]:
    try:
        names = sorted(os.listdir(releases_dir))
    except FileNotFoundError:
        return []
    return [os.path.join(releases_dir, n) for n in names if RELEASE_ID.fullmatch(n)]


def list_releases(releases_dir: Union[str, os.PathLike[str]]) -> List[Release]:
    """Return the complete releases, oldest first; none when nothing is there."""
    found = (read_marker(path) for path in _release_dirs(releases_dir))
    return sorted(
        (release for release in found if release is not None),
        key=lambda release: (release.sequence, release.id),
    )


def superfluous(
    ordered_ids: Sequence[str], current: str, protected: FrozenSet[str], keep: int
) -> List[str]:
    """Return the ids, of those ordered oldest first, that are to be removed.

    ``keep`` counts neither the current release nor protected ones.
    """
    spare = [i for i in ordered_ids if i != current and i not in protected]
    return spare[: max(len(spare) - keep, 0)]


def ensure_present(
    request: ReleaseRequest, run: Runner, *, check_mode: bool
) -> Dict[str, Any]:
    """Have the requested release complete; return the module's result.

    The result has ``needs_transfer`` when archives must come from the controller
    first. Raises KeepaliveError; an unfinished release is removed then.
    """
    before = list_releases(request.releases_dir)
    try:
        interpreter = find_interpreter(request.python, run)
        wanted = release_id(
            request, interpreter.version, package_digest(request.package)
        )
    except InputMissingError:
        if not check_mode:
            raise
        return dict(_result(request, "", None, before, before), changed=True)
    present = _find(before, wanted)
    if present is not None:
        return _result(request, wanted, present, before, before)
    if check_mode:
        return _predicted(request, wanted, before)
    if request.lacks_archives:
        waiting = _result(request, wanted, None, before, before)
        return dict(waiting, needs_transfer=True)
    with _os_errors(request.releases_dir), _lock(request.releases_dir):
        return _build_and_prune(request, wanted, interpreter, run)


def _find(releases: Sequence[Release], wanted: str) -> Optional[Release]:
    return next((release for release in releases if release.id == wanted), None)


def _predicted(
    request: ReleaseRequest, wanted: str, before: List[Release]
) -> Dict[str, Any]:
    ids = [release.id for release in before]
    removed = superfluous(ids, wanted, request.protected, request.keep)
    after = [i for i in ids if i not in removed] + [wanted]
    result = _result(request, wanted, None, before, before)
    result.update(changed=True, removed=removed, diff=_diff(request, ids, after))
    return result


def _build_and_prune(
    request: ReleaseRequest, wanted: str, interpreter: Interpreter, run: Runner
) -> Dict[str, Any]:
    # Anew, because another run may have finished before this one got the lock.
    before = list_releases(request.releases_dir)
    present = _find(before, wanted)
    if present is not None:
        return _result(request, wanted, present, before, before)
    started_s = time.monotonic()
    sequence = max((release.sequence for release in before), default=0) + 1
    release = _build(request, wanted, sequence, interpreter, run)
    seconds = round(time.monotonic() - started_s, 3)
    removed = _prune(request, wanted)
    after = list_releases(request.releases_dir)
    result = _result(request, wanted, release, before, after)
    result.update(
        changed=True,
        built=True,
        seconds_to_build=seconds,
        removed=removed,
        packages=list(release.packages),
    )
    return result


def _build(
    request: ReleaseRequest,
    wanted: str,
    sequence: int,
    interpreter: Interpreter,
    run: Runner,
) -> Release:
    release_dir = os.path.join(request.releases_dir, wanted)
    _clear_unfinished(request, release_dir)
    try:
        os.mkdir(release_dir)
        packages = build_release(request, release_dir, interpreter, run)
        release = Release(
            id=wanted,
            sequence=sequence,
            path=release_dir,
            source_kind="directory" if request.content_digest else "package",
            package=request.package,
            python_version=interpreter.version,
            packages=tuple(packages),
        )
        write_marker(release)
    except BaseException:
        shutil.rmtree(release_dir, ignore_errors=True)
        raise
    return release


def _clear_unfinished(request: ReleaseRequest, release_dir: str) -> None:
    """Remove what an interrupted build left; KeepaliveError when a slot uses it."""
    if not os.path.lexists(release_dir):
        return
    wanted = os.path.basename(release_dir)
    if wanted in request.protected:
        raise KeepaliveError(
            "protected: a slot uses release {0}, but {1} has no valid {2}. It is "
            "not touched while in use; switch to another release first.".format(
                wanted, release_dir, MARKER
            )
        )
    shutil.rmtree(release_dir)


def _prune(request: ReleaseRequest, current: str) -> List[str]:
    """Remove surplus releases and every unfinished one; return the former's ids."""
    ids = [release.id for release in list_releases(request.releases_dir)]
    removed = superfluous(ids, current, request.protected, request.keep)
    for path in _release_dirs(request.releases_dir):
        name = os.path.basename(path)
        unfinished = name not in ids and name not in request.protected
        if name in removed or unfinished:
            _remove(path)
    return removed


def _remove(release_dir: str) -> None:
    # The marker first: half a release must not look like a whole one.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(release_dir, MARKER))
    shutil.rmtree(release_dir)


def ensure_absent(request: ReleaseRequest, *, check_mode: bool) -> Dict[str, Any]:
    """Remove releases_dir with all releases; return the module's result.

    Raises KeepaliveError when slots use a release or foreign files are there.
    """
    before = list_releases(request.releases_dir)
    result = _result(request, "", None, before, [])
    if not os.path.lexists(request.releases_dir):
        return result
    if request.protected:
        raise KeepaliveError(
            "protected: slots use {0}; stop and remove them before state is "
            "absent.".format(", ".join(sorted(request.protected)))
        )
    with _os_errors(request.releases_dir):
        _refuse_foreign(request.releases_dir)
        result.update(changed=True, removed=[release.id for release in before])
        if not check_mode:
            with _lock(request.releases_dir):
                for path in _release_dirs(request.releases_dir):
                    _remove(path)
                os.unlink(os.path.join(request.releases_dir, _LOCK))
                os.rmdir(request.releases_dir)
                with contextlib.suppress(OSError):
                    # The service's folder goes too, unless somebody else uses it.
                    os.rmdir(os.path.dirname(request.releases_dir.rstrip("/")))
    return result


def _refuse_foreign(releases_dir: str) -> None:
    foreign = [
        name
        for name in sorted(os.listdir(releases_dir))
        if name != _LOCK and not RELEASE_ID.fullmatch(name)
    ]
    if foreign:
        raise KeepaliveError(
            "fastapi_service_releases_dir: {0} holds {1}, which is no release, so "
            "nothing there was "
            "removed. Move it away, or correct fastapi_service_releases_dir.".format(
                releases_dir, ", ".join(foreign)
            )
        )


def _lock(releases_dir: str) -> ContextManager[None]:
    """Hold the one lock of a service's releases; see ``exclusive``."""
    held = (
        "Another run is building or removing releases in {0}. Wait for it to end, "
        "then run again.".format(releases_dir)
    )
    return exclusive(Path(releases_dir, _LOCK), held)


@contextlib.contextmanager
def _os_errors(releases_dir: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(releases_dir) from error
        raise KeepaliveError(
            "fastapi_service_releases_dir: {0} cannot be worked on: {1}".format(
                releases_dir, error
            )
        ) from error


def _result(
    request: ReleaseRequest,
    wanted: str,
    release: Optional[Release],
    before: Sequence[Release],
    after: Sequence[Release],
) -> Dict[str, Any]:
    path = os.path.join(request.releases_dir, wanted) if wanted else ""
    result: Dict[str, Any] = {
        "changed": False,
        "release_id": wanted,
        "release_path": path,
        "venv_python": venv_python(path) if wanted else "",
        "built": False,
        "seconds_to_build": 0.0,
        "removed": [],
        "diff": _diff(request, [r.id for r in before], [r.id for r in after]),
    }
    if release is not None:
        result["sequence"] = release.sequence
    return result


def _diff(
    request: ReleaseRequest, before: Sequence[str], after: Sequence[str]
) -> Dict[str, str]:
    header = "{0} (complete releases, oldest first)".format(request.releases_dir)
    return {
        "before_header": header,
        "after_header": header,
        "before": "".join("{0}\n".format(i) for i in before),
        "after": "".join("{0}\n".format(i) for i in after),
    }
