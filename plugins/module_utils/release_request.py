# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a release is asked to be: arguments, their checks, and the release id."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Mapping, Tuple
from urllib.parse import urlsplit

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout

# Raised when the same inputs start to give another release directory.
_RECIPE = 1

RELEASE_ID = re.compile(r"[0-9a-f]{16}")
# PEP 508 name and extras, then exactly one version (no wildcard).
_PINNED = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
    r"(?:\[[A-Za-z0-9._,\s-]+\])?\s*==\s*[A-Za-z0-9][A-Za-z0-9.!+_-]*"
)

DEFAULT_EXCLUDE = [
    ".git",
    ".venv",
    "venv",
    "__pycache__",
    "*.pyc",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "node_modules",
    ".tox",
]

# Set by the action plugin on the way to the module, never by a task.
SHIPMENT_ARGUMENTS = ("content_digest", "archive", "wheels_digest", "wheels_archive")

_STRINGS = {"type": "list", "elements": "str"}
ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "releases_dir": {"type": "path"},
    "source_path": {"type": "str"},
    "source_exclude": dict(_STRINGS, default=DEFAULT_EXCLUDE),
    "package": {"type": "str"},
    "requirements": {"type": "str", "default": ""},
    "install_project": {
        "type": "str",
        "choices": ["auto", "always", "never"],
        "default": "auto",
    },
    "server_packages": dict(_STRINGS, default=[]),
    "wheel_dir": {"type": "str"},
    "index_url": {"type": "str", "no_log": True},
    "extra_pip_args": dict(_STRINGS, default=[]),
    "ca_bundle": {"type": "path"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
    "keep": {"type": "int", "default": 3},
    "protected": dict(_STRINGS, default=[]),
    "content_digest": {"type": "str"},
    "archive": {"type": "path"},
    "wheels_digest": {"type": "str"},
    "wheels_archive": {"type": "path"},
}


@dataclass(frozen=True)
class ReleaseRequest:
    """The checked arguments of one task; '' stands for not given."""

    name: str
    releases_dir: str
    package: str
    requirements: str
    install_project: str
    server_packages: Tuple[str, ...]
    index_url: str
    extra_pip_args: Tuple[str, ...]
    ca_bundle: str
    python: str
    keep: int
    protected: FrozenSet[str]
    content_digest: str
    archive: str
    wheels_digest: str
    wheels_archive: str

    @property
    def lacks_archives(self) -> bool:
        """Whether something that only the controller has must come over first."""
        return bool(
            (self.content_digest and not self.archive)
            or (self.wheels_digest and not self.wheels_archive)
        )


def request_from(params: Mapping[str, Any]) -> ReleaseRequest:
    """Return the request that task arguments of ARGUMENTS' shape make.

    Raises KeepaliveError naming the argument that cannot be taken.
    """
    name = params["name"]
    layout = Layout(name)
    request = ReleaseRequest(
        name=name,
        releases_dir=params["releases_dir"] or str(layout.releases_dir),
        package=(params["package"] or "").strip(),
        requirements=normal_requirements(params["requirements"] or ""),
        install_project=params["install_project"],
        server_packages=tuple(line.strip() for line in params["server_packages"]),
        index_url=params["index_url"] or "",
        extra_pip_args=tuple(params["extra_pip_args"]),
        ca_bundle=params["ca_bundle"] or "",
        python=params["python"],
        keep=params["keep"],
        protected=frozenset(filter(None, params["protected"])),
        **{key: params[key] or "" for key in SHIPMENT_ARGUMENTS},
    )
    _check(request)
    return request


def normal_requirements(path: str) -> str:
    """Return the requirements path in its one spelling.

    Raises KeepaliveError when it could lie outside the source.
    """
    if not path:
        return ""
    normal = posixpath.normpath(path)
    if posixpath.isabs(normal) or normal.split("/", 1)[0] == "..":
        raise KeepaliveError(
            "fastapi_service_requirements: {0} must be relative to "
            "fastapi_service_source_path and stay inside "
            "it.".format(path)
        )
    return normal


def _check(request: ReleaseRequest) -> None:
    check_package(request.package)
    if request.package and request.requirements:
        raise KeepaliveError(
            "fastapi_service_requirements: {0} is a path inside "
            "fastapi_service_source_path, so it cannot go with "
            "fastapi_service_package; drop it.".format(request.requirements)
        )
    for line in request.server_packages:
        if not line[:1].isalnum() or "\n" in line:
            raise KeepaliveError(
                "fastapi_service_server_packages: {0!r} is no requirement line such as "
                "gunicorn==27.0.1; pip's options go to "
                "fastapi_service_extra_pip_args.".format(line)
            )
    for argument in ("releases_dir", "python"):
        value = getattr(request, argument)
        if not os.path.isabs(value):
            raise KeepaliveError(
                "fastapi_service_{0}: {1} must be absolute.".format(argument, value)
            )
    if request.keep < 0:
        raise KeepaliveError(
            "fastapi_service_keep_releases: {0} must be 0 or more.".format(request.keep)
        )
    for protected in request.protected:
        if not RELEASE_ID.fullmatch(protected):
            raise KeepaliveError(
                "protected: {0!r} is no release id (16 hexadecimal digits).".format(
                    protected
                )
            )


def check_package(package: str) -> None:
    """Raise KeepaliveError unless package can only ever mean one thing ('' passes)."""
    if not package or _PINNED.fullmatch(package) or is_wheel_path(package):
        return
    url = urlsplit(package)
    if url.scheme not in ("http", "https"):
        raise KeepaliveError(
            "fastapi_service_package: {0!r} is not pinned, so the same input could "
            "become another release. Use name==1.2.3, the absolute path of a wheel on "
            "the target, or a wheel's URL.".format(package)
        )
    if "@" in url.netloc:
        raise KeepaliveError(
            "fastapi_service_package: credentials in a URL would be written to the "
            "release's marker; "
            "put them into fastapi_service_index_url."
        )
    if not url.path.endswith(".whl"):
        raise KeepaliveError(
            "fastapi_service_package: {0} is no URL of a wheel.".format(package)
        )
    if url.scheme == "http" and "sha256=" not in url.fragment:
        raise KeepaliveError(
            "fastapi_service_package: {0} comes over plain http; append "
            "#sha256=DIGEST or use "
            "https.".format(package)
        )


def is_wheel_path(package: str) -> bool:
    """Tell whether package names a wheel file on the target."""
    return posixpath.isabs(package) and package.endswith(".whl")


def release_id(
    request: ReleaseRequest, python_version: str, package_digest: str
) -> str:
    """Return the id of the release that these inputs make.

    Left out: ``index_url`` and ``ca_bundle`` say where packages come from, not
    which, and may hold credentials. ``extra_pip_args`` can change what is
    installed, so they are in.
    """
    inputs = {
        "recipe": _RECIPE,
        "content": request.content_digest,
        "package": request.package,
        "package_digest": package_digest,
        "requirements": request.requirements,
        "install_project": request.install_project,
        "server_packages": request.server_packages,
        "extra_pip_args": request.extra_pip_args,
        "wheels": request.wheels_digest,
        "python": request.python,
        "python_version": python_version,
    }
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]
