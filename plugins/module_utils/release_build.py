# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill a release directory: source tree, virtual environment, packages."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple, Union

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_request import (
    ReleaseRequest,
    is_wheel_path,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_source import (
    Entry,
    extract_archive,
    file_digest,
    list_tree,
    list_wheels,
    tree_digest,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Runner

_OLDEST_PYTHON = (3, 9)
_SHOWN_LINES = 20
# -I keeps the current directory, which is the application, off sys.path: an
# application's own email.py or types.py must not replace the standard library's.
_ISOLATED = "-I"
_PROBE = (
    "import importlib.util, json, platform; print(json.dumps([platform."
    "python_version(), importlib.util.find_spec('ensurepip') is not None]))"
)
_DISK_FULL_TEXT = ("No space left on device", "Disk quota exceeded")
# They come with the virtual environment; nobody asked for their versions.
_VENV_PACKAGES = {"pip", "setuptools", "wheel"}


class InputMissingError(KeepaliveError):
    """An input of the release id is absent; an earlier task may yet bring it.

    Check mode, where earlier tasks changed nothing, must not fail for that.
    """


@dataclass(frozen=True)
class Interpreter:
    """The target's Python as found; version is x.y.z."""

    path: str
    version: str
    has_ensurepip: bool


def find_interpreter(path: str, run: Runner) -> Interpreter:
    """Ask the Python at path for its version.

    Raises InputMissingError when there is none, KeepaliveError when it is too old or
    does not run.
    """
    if not os.access(path, os.X_OK):
        raise InputMissingError(
            "fastapi_service_python: there is no executable {0} on the target. "
            "Install the packages python3 and python3-venv, or set "
            "fastapi_service_python.".format(path)
        )
    status, out, err = run([path, _ISOLATED, "-c", _PROBE])
    if status != 0:
        raise KeepaliveError(
            "fastapi_service_python: {0} does not run: {1}".format(path, err.strip())
        )
    version, has_ensurepip = json.loads(out)
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_PYTHON:
        raise KeepaliveError(
            "fastapi_service_python: {0} is Python {1}; 3.9 or newer is needed.".format(
                path, version
            )
        )
    return Interpreter(path, version, has_ensurepip)


def package_digest(package: str) -> str:
    """Return the digest of a wheel on the target, '' for any other package.

    Raises InputMissingError when the wheel is not there.
    """
    if not is_wheel_path(package):
        return ""
    if not os.path.isfile(package):
        raise InputMissingError(
            "fastapi_service_package: there is no wheel {0} on the target; copy it "
            "there first.".format(package)
        )
    return file_digest(package)


def is_disk_full(said: Union[str, OSError]) -> bool:
    """Tell a full disk (or quota) from other failures."""
    if isinstance(said, OSError) and said.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(text in str(said) for text in _DISK_FULL_TEXT)


def disk_full(release_dir: str) -> KeepaliveError:
    """Return the error that says the disk is full."""
    return KeepaliveError(
        "The disk is full: no space left for the release {0} (pip also unpacks into "
        "TMPDIR, by default /tmp). The unfinished release was removed; free some "
        "space, for example with a smaller fastapi_service_keep_releases, and run "
        "again.".format(release_dir)
    )


def redact(text: str, index_url: str) -> str:
    """Return text without index_url and without credentials in any other URL."""
    if index_url:
        text = text.replace(index_url, "(index_url)")
    return re.sub(r"://[^/@\s]+@", "://****@", text)


@dataclass(frozen=True)
class Pip:
    """pip of one release's virtual environment, told how this task wants it."""

    run: Runner
    python: str
    release_dir: str
    cwd: str
    env: Mapping[str, str]
    install_options: Tuple[str, ...]
    index_url: str

    def install(self, arguments: Sequence[str], failure: str) -> None:
        """Install; raises KeepaliveError with failure and pip's last lines."""
        self._do(
            ["install", "--no-cache-dir", *self.install_options, *arguments], failure
        )

    def check(self) -> None:
        """Raise KeepaliveError when installed packages do not fit together."""
        self._do(
            ["check"],
            "The installed packages do not fit together. Correct the application's "
            "requirements or fastapi_service_server_packages. Nothing was changed.",
        )

    def installed(self) -> List[str]:
        """Return name==version of every package but those the venv came with."""
        out = self._do(
            ["list", "--format=freeze"], "pip cannot list what it installed."
        )
        lines = (line.strip() for line in out.splitlines() if "==" in line)
        return [line for line in lines if line.split("==", 1)[0] not in _VENV_PACKAGES]

    def _do(self, arguments: Sequence[str], failure: str) -> str:
        argv = [self.python, _ISOLATED, "-m", "pip"]
        argv += ["--disable-pip-version-check", "--no-input", *arguments]
        status, out, err = self.run(argv, cwd=self.cwd, env=self.env)
        if status == 0:
            return out
        said = "{0}\n{1}".format(out, err)
        if is_disk_full(said):
            raise disk_full(self.release_dir)
        last = _last_lines(redact(said, self.index_url))
        raise KeepaliveError("{0}\npip said:\n{1}".format(failure, last))


def build_release(
    request: ReleaseRequest, release_dir: str, interpreter: Interpreter, run: Runner
) -> List[str]:
    """Fill the existing, empty release_dir; return the installed packages.

    The marker is the caller's to write. Raises KeepaliveError; OSError when the
    file system refuses. Either way release_dir is left as it is then.
    """
    build_dir = os.path.join(release_dir, "build")
    os.mkdir(build_dir)
    app_dir = os.path.join(release_dir, "app")
    if request.archive:
        _unpack(request.archive, app_dir, request.content_digest, "source_path")
    pip = _create_venv(request, release_dir, interpreter, run)
    if request.archive:
        _install_source(request, pip, app_dir, build_dir)
        # A file that does not compile may be a template or a test's fixture, so
        # the outcome does not matter: this only saves start-up time.
        run([pip.python, _ISOLATED, "-m", "compileall", "-q", app_dir])
    else:
        pip.install(
            [request.package],
            "fastapi_service_package: {0} cannot be installed.".format(request.package)
            + _advice(request),
        )
    _install_server(request, pip, build_dir)
    pip.check()
    shutil.rmtree(build_dir)
    return pip.installed()


def _unpack(archive: str, destination: str, digest: str, argument: str) -> None:
    extract_archive(archive, destination)
    entries = _entries(destination, argument)
    if tree_digest(destination, entries) != digest:
        raise KeepaliveError(
            "fastapi_service_{0}: the files changed on the controller while they were "
            "read; run again.".format(argument)
        )


def _entries(directory: str, argument: str) -> List[Entry]:
    if argument == "wheel_dir":
        return list_wheels(directory)
    return list_tree(directory, exclude=())


def _create_venv(
    request: ReleaseRequest, release_dir: str, interpreter: Interpreter, run: Runner
) -> Pip:
    venv_dir = os.path.join(release_dir, "venv")
    if not interpreter.has_ensurepip:
        raise KeepaliveError(
            "fastapi_service_python: {0} (Python {1}) cannot make a virtual "
            "environment, because its ensurepip module is missing. Install the "
            "package python3-venv (for another Python than the distribution's: its "
            "own -venv package).".format(interpreter.path, interpreter.version)
        )
    python = os.path.join(venv_dir, "bin", "python")
    # venv hides what ensurepip says, a full disk included, so it is run apart.
    for argv in (
        [interpreter.path, _ISOLATED, "-m", "venv", "--without-pip", venv_dir],
        [python, _ISOLATED, "-m", "ensurepip", "--upgrade", "--default-pip"],
    ):
        status, out, err = run(argv)
        if status != 0:
            raise _venv_failure(release_dir, argv, "{0}\n{1}".format(out, err))
    return _pip(request, release_dir, run)


def _venv_failure(release_dir: str, argv: Sequence[str], said: str) -> KeepaliveError:
    if is_disk_full(said):
        return disk_full(release_dir)
    return KeepaliveError(
        "fastapi_service_python: {0} failed, so there is no virtual environment. It "
        "said:\n{1}".format(" ".join(argv), _last_lines(said))
    )


def _last_lines(said: str) -> str:
    return "\n".join(said.strip().splitlines()[-_SHOWN_LINES:])


def _pip(request: ReleaseRequest, release_dir: str, run: Runner) -> Pip:
    options: List[str] = []
    if request.wheels_archive:
        wheels = os.path.join(release_dir, "build", "wheels")
        _unpack(request.wheels_archive, wheels, request.wheels_digest, "wheel_dir")
        options = ["--no-index", "--find-links", wheels]
    app_dir = os.path.join(release_dir, "app")
    return Pip(
        run=run,
        python=os.path.join(release_dir, "venv", "bin", "python"),
        release_dir=release_dir,
        # Requirements files name local paths relative to the source.
        cwd=app_dir if request.archive else release_dir,
        env=_pip_environment(request),
        install_options=(*options, *request.extra_pip_args),
        index_url=request.index_url,
    )


def _pip_environment(request: ReleaseRequest) -> Dict[str, str]:
    env = {"PIP_PROGRESS_BAR": "off", "PIP_NO_COLOR": "1"}
    if request.wheels_digest:
        # The target's own pip settings may name other places, and --no-index
        # leaves their find-links in force.
        env.update(PIP_CONFIG_FILE=os.devnull, PIP_FIND_LINKS="")
    elif request.index_url:
        # By environment, because arguments of a process are public on its host.
        env["PIP_INDEX_URL"] = request.index_url
    if request.ca_bundle:
        if not os.path.isfile(request.ca_bundle):
            raise KeepaliveError(
                "fastapi_service_ca_bundle: there is no file {0} on the target.".format(
                    request.ca_bundle
                )
            )
        env["PIP_CERT"] = request.ca_bundle
    return env


def _advice(request: ReleaseRequest) -> str:
    if request.wheels_digest:
        return (
            " Only fastapi_service_wheel_dir is searched: every package it needs, "
            "build backends included, must be a wheel there that fits this Python. "
            "The unfinished release was removed."
        )
    return (
        " Check name and version, and fastapi_service_index_url, "
        "fastapi_service_ca_bundle and fastapi_service_extra_pip_args if the package "
        "index cannot be reached. The unfinished release was removed."
    )


def _install_source(
    request: ReleaseRequest, pip: Pip, app_dir: str, build_dir: str
) -> None:
    if request.requirements:
        path = os.path.join(app_dir, request.requirements)
        hashes = ["--require-hashes"] if file_has_hashes(path) else []
        pip.install(
            [*hashes, "-r", request.requirements],
            "fastapi_service_requirements: {0} cannot be installed.".format(
                request.requirements
            )
            + _advice(request),
        )
    if not installs_project(app_dir, request.install_project, request.requirements):
        return
    # Build backends write into the tree they build, and app/ is to stay the source.
    project_dir = os.path.join(build_dir, "project")
    shutil.copytree(app_dir, project_dir, symlinks=True)
    pip.install(
        [*(["--no-deps"] if request.requirements else []), project_dir],
        "fastapi_service_install_project: the source cannot be installed as a "
        "package; set it to "
        "never if the application runs from its directory." + _advice(request),
    )


def file_has_hashes(path: str) -> bool:
    """Tell whether a requirements file carries --hash outside its comments."""
    with open(path, encoding="utf-8", errors="replace") as lines:
        return any(has_hash(line) for line in lines)


def has_hash(line: str) -> bool:
    """Tell whether a requirement line, or a continued part of one, has a hash."""
    return re.search(r"(?:^|\s)--hash[=\s]", re.sub(r"(^|\s)#.*", "", line)) is not None


def installs_project(app_dir: str, choice: str, requirements: str) -> bool:
    """Tell whether pip is to install the source itself.

    ``auto`` installs what declares a build (setup.py, or a [build-system] table).
    A [project] table alone is an application by uv's convention: it is installed
    only where no requirements file brings its dependencies. Poetry's
    ``package-mode = false`` and uv's ``package = false`` are obeyed.

    Raises KeepaliveError for ``always`` without anything to build.
    """
    has_setup = os.path.isfile(os.path.join(app_dir, "setup.py"))
    pyproject = os.path.join(app_dir, "pyproject.toml")
    has_pyproject = os.path.isfile(pyproject)
    if choice == "always" and not (has_setup or has_pyproject):
        raise KeepaliveError(
            "fastapi_service_install_project: always needs a pyproject.toml or "
            "setup.py at the top of fastapi_service_source_path; there is none."
        )
    if choice != "auto":
        return choice == "always"
    if not has_pyproject:
        return has_setup
    with open(pyproject, encoding="utf-8", errors="replace") as file:
        text = file.read()
    if re.search(r"^\s*(?:package-mode|package)\s*=\s*false\b", text, re.MULTILINE):
        return False
    if has_setup or re.search(r"^\s*\[\s*build-system\s*\]", text, re.MULTILINE):
        return True
    has_table = re.search(r"^\s*\[\s*project\s*\]", text, re.MULTILINE) is not None
    return has_table and not requirements


def _install_server(request: ReleaseRequest, pip: Pip, build_dir: str) -> None:
    """Add server_packages, holding every version that the application chose."""
    if not request.server_packages:
        return
    chosen = pip.installed()
    constraints = _write_lines(os.path.join(build_dir, "constraints.txt"), chosen)
    wanted = _write_lines(
        os.path.join(build_dir, "server_packages.txt"), request.server_packages
    )
    hashes = any(has_hash(line) for line in request.server_packages)
    pip.install(
        [
            *(["--require-hashes"] if hashes else []),
            *("--constraint", constraints, "-r", wanted),
        ],
        "fastapi_service_server_packages cannot be installed with every version held "
        "that the "
        "application chose. Where pip names a conflict, align the version in "
        "fastapi_service_server_packages or in the application's requirements."
        + _advice(request),
    )


def _write_lines(path: str, lines: Sequence[str]) -> str:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines("{0}\n".format(line) for line in lines)
    return path
