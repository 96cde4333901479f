# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import release_build
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release import (
    Release,
    ensure_absent,
    ensure_present,
    list_releases,
    read_marker,
    superfluous,
    write_marker,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_build import (
    InputMissingError,
    file_has_hashes,
    find_interpreter,
    has_hash,
    installs_project,
    is_disk_full,
    redact,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_request import (
    ARGUMENTS,
    ReleaseRequest,
    request_from,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.release_source import (
    file_digest,
    list_tree,
    list_wheels,
    tree_digest,
    write_archive,
)
from hypothesis import given
from hypothesis import strategies as st

IDS = ["{0:016x}".format(number) for number in range(9)]


class FakeHost:
    """A target whose Python and pip do as told, and remember what they were asked."""

    def __init__(self) -> None:
        self.version = "3.11.2"
        self.has_ensurepip = True
        self.fails: dict[str, str] = {}
        self.calls: list[list[str]] = []
        self.environments: list[dict[str, str]] = []

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> tuple[int, str, str]:
        assert cwd is None or os.path.isdir(cwd)
        assert argv[1] == "-I"
        self.calls.append(list(argv))
        self.environments.append(dict(env or {}))
        line = " ".join(argv)
        for part, said in self.fails.items():
            if part in line:
                return 1, "", said
        if "-c" in argv:
            return 0, json.dumps([self.version, self.has_ensurepip]), ""
        if argv[2:4] == ["-m", "venv"]:
            os.makedirs(os.path.join(argv[-1], "bin"))
        if "list" in argv:
            return 0, "fastapi==0.140.0\npip==23.0.1\nsetuptools==66\n", ""
        return 0, "", ""

    def pip(self, verb: str) -> list[list[str]]:
        return [call for call in self.calls if verb in call and "pip" in call]


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


class Source:
    """A source directory on the controller, and requests made from it."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "src"
        self.archive = str(tmp_path / "archive.tar.gz")
        self.releases = tmp_path / "releases"
        self.write("main.py", "x = 1\n")

    def write(self, name: str, content: str) -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / name).write_text(content)

    def request(self, **changes: Any) -> ReleaseRequest:
        entries = list_tree(str(self.root), ())
        write_archive(str(self.root), entries, self.archive)
        params = {name: spec.get("default") for name, spec in ARGUMENTS.items()}
        params.update(
            name="shop",
            releases_dir=str(self.releases),
            python=sys.executable,
            content_digest=tree_digest(str(self.root), entries),
            archive=self.archive,
        )
        params.update(changes)
        return request_from(params)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


def build(source: Source, host: FakeHost, **changes: Any) -> dict[str, Any]:
    return ensure_present(source.request(**changes), host, check_mode=False)


def release_names(source: Source) -> list[str]:
    return [release.id for release in list_releases(str(source.releases))]


def test_first_run_builds_and_second_changes_nothing(
    source: Source, host: FakeHost
) -> None:
    first = build(source, host)
    assert first["changed"]
    assert first["built"]
    assert first["sequence"] == 1
    assert first["packages"] == ["fastapi==0.140.0"]
    assert first["diff"]["after"] == first["release_id"] + "\n"
    assert sorted(os.listdir(first["release_path"])) == ["app", "release.json", "venv"]

    second = build(source, host)
    assert not second["changed"]
    assert second["release_path"] == first["release_path"]
    assert second["sequence"] == 1
    assert second["diff"]["before"] == second["diff"]["after"]


def test_files_are_readable_whatever_the_umask(source: Source, host: FakeHost) -> None:
    umask = os.umask(0o077)
    try:
        path = Path(build(source, host)["release_path"])
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(umask)
    modes = {p.stat().st_mode & 0o777 for p in (path.parent, path, path / "app")}
    assert modes == {0o755}
    assert (path / "app/main.py").stat().st_mode & 0o777 == 0o644


def test_unknown_release_asks_for_its_archive(source: Source, host: FakeHost) -> None:
    result = build(source, host, archive="")
    assert result["needs_transfer"]
    assert not result["changed"]
    assert not source.releases.exists()


def test_known_release_asks_for_nothing(source: Source, host: FakeHost) -> None:
    build(source, host)
    result = build(source, host, archive="")
    assert "needs_transfer" not in result
    assert not result["changed"]


def test_check_mode_tells_what_would_change(source: Source, host: FakeHost) -> None:
    old = build(source, host)["release_id"]
    source.write("main.py", "x = 2\n")
    request = source.request(keep=0, archive="")
    result = ensure_present(request, host, check_mode=True)
    assert result["changed"]
    assert result["removed"] == [old]
    assert result["diff"]["before"] == old + "\n"
    assert result["diff"]["after"] == result["release_id"] + "\n"
    assert "needs_transfer" not in result
    assert release_names(source) == [old]


@pytest.mark.parametrize(
    "change",
    [
        {"python": "/nonexistent/python3"},
        {"content_digest": "", "archive": "", "package": "/nonexistent/shop-1.whl"},
    ],
)
def test_missing_input_is_a_change_in_check_mode_and_an_error_otherwise(
    source: Source, host: FakeHost, change: dict[str, str]
) -> None:
    request = source.request(**change)
    result = ensure_present(request, host, check_mode=True)
    assert result["changed"]
    assert result["release_id"] == result["release_path"] == result["venv_python"] == ""
    with pytest.raises(InputMissingError, match="/nonexistent/"):
        ensure_present(request, host, check_mode=False)
    assert not source.releases.exists()


def test_unmarked_directory_is_built_anew(source: Source, host: FakeHost) -> None:
    path = Path(build(source, host)["release_path"])
    (path / "release.json").unlink()
    (path / "half").touch()
    assert list_releases(str(source.releases)) == []
    assert build(source, host)["built"]
    assert not (path / "half").exists()


def test_unmarked_directory_in_use_is_left_alone(
    source: Source, host: FakeHost
) -> None:
    path = Path(build(source, host)["release_path"])
    (path / "release.json").unlink()
    with pytest.raises(KeepaliveError, match=r"^protected: a slot uses"):
        build(source, host, protected=[path.name])
    assert (path / "app/main.py").exists()


def test_second_build_at_once_is_refused(source: Source, host: FakeHost) -> None:
    source.releases.mkdir()
    with (source.releases / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(KeepaliveError, match="Another run"):
            build(source, host)
    assert build(source, host)["built"]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("-m venv", r"python: .* -m venv .* failed"),
        ("-m ensurepip", r"python: .* -m ensurepip .* failed"),
        ("-r requirements.txt", r"requirements: requirements\.txt cannot be installed"),
        ("build/project", r"install_project: the source cannot be installed"),
        ("server_packages.txt", r"server_packages cannot be installed"),
        ("--no-input check", r"do not fit together"),
        ("--no-input list", r"pip cannot list"),
    ],
)
def test_failed_step_is_named_and_leaves_no_release(
    source: Source, host: FakeHost, part: str, says: str
) -> None:
    source.write("requirements.txt", "fastapi==0.140.0\n")
    source.write("setup.py", "")
    host.fails[part] = "\n".join("line {0}".format(n) for n in range(30))
    with pytest.raises(KeepaliveError, match=says) as failure:
        build(
            source,
            host,
            requirements="requirements.txt",
            server_packages=["gunicorn==27.0.1"],
        )
    assert "line 29" in str(failure.value)
    assert "line 9\n" not in str(failure.value)
    assert os.listdir(source.releases) == [".lock"]


def test_failure_leaves_other_releases(source: Source, host: FakeHost) -> None:
    old = build(source, host)["release_id"]
    source.write("main.py", "x = 2\n")
    host.fails["check"] = "conflict"
    with pytest.raises(KeepaliveError):
        build(source, host, keep=0)
    assert release_names(source) == [old]


@pytest.mark.parametrize("part", ["-m venv", "-m ensurepip", "install"])
def test_full_disk_has_its_own_message(
    source: Source, host: FakeHost, part: str
) -> None:
    host.fails[part] = "OSError: [Errno 28] No space left on device"
    with pytest.raises(KeepaliveError, match=r"^The disk is full"):
        build(source, host, server_packages=["gunicorn==27.0.1"])
    assert os.listdir(source.releases) == [".lock"]


def test_full_disk_while_unpacking(
    source: Source, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(release_build, "extract_archive", full)
    with pytest.raises(KeepaliveError, match=r"^The disk is full"):
        build(source, host)
    assert os.listdir(source.releases) == [".lock"]


def test_missing_ensurepip_names_the_package(source: Source, host: FakeHost) -> None:
    host.has_ensurepip = False
    with pytest.raises(KeepaliveError, match="python3-venv"):
        build(source, host)


def test_old_python_is_refused(host: FakeHost) -> None:
    host.version = "3.8.20"
    with pytest.raises(KeepaliveError, match=r"3\.8\.20; 3\.9 or newer"):
        find_interpreter(sys.executable, host)


def test_source_that_changed_on_the_way_is_refused(
    source: Source, host: FakeHost
) -> None:
    with pytest.raises(KeepaliveError, match=r"source_path: the files changed"):
        build(source, host, content_digest="another")
    assert os.listdir(source.releases) == [".lock"]


def test_builds_count_up_and_old_releases_go(source: Source, host: FakeHost) -> None:
    built: list[str] = []
    for number in range(4):
        source.write("main.py", "x = {0}\n".format(number))
        result = build(source, host, keep=1, protected=built[:1])
        built.append(result["release_id"])
    assert result["sequence"] == 4
    assert result["removed"] == [built[1]]
    assert release_names(source) == [built[0], built[2], built[3]]


def test_build_clears_unfinished_directories_but_protected_ones(
    source: Source, host: FakeHost
) -> None:
    for name in (IDS[1], IDS[2], "notes"):
        (source.releases / name).mkdir(parents=True)
    result = build(source, host, protected=[IDS[2]])
    assert sorted(os.listdir(source.releases)) == sorted(
        [".lock", IDS[2], "notes", result["release_id"]]
    )
    assert result["removed"] == []


@given(
    ids=st.lists(st.sampled_from(IDS), unique=True),
    current=st.sampled_from(IDS),
    protected=st.frozensets(st.sampled_from(IDS)),
    keep=st.integers(0, 10),
)
def test_superfluous_keeps_the_newest_and_all_in_use(
    ids: list[str], current: str, protected: frozenset[str], keep: int
) -> None:
    removed = superfluous(ids, current, protected, keep)
    assert not set(removed) & ({current} | protected)
    spare = [i for i in ids if i != current and i not in protected]
    left = [i for i in spare if i not in removed]
    assert left == spare[len(spare) - min(keep, len(spare)) :]


def a_release(path: Path, sequence: int = 1) -> Release:
    return Release(
        id=path.name,
        sequence=sequence,
        path=str(path),
        source_kind="package",
        package="shop==1",
        python_version="3.11.2",
        packages=("shop==1",),
    )


def test_marker_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / IDS[0]
    path.mkdir()
    assert read_marker(str(path)) is None
    write_marker(a_release(path))
    assert read_marker(str(path)) == a_release(path)
    assert os.listdir(path) == ["release.json"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id": "x"}', "null", "\x00"])
def test_damaged_marker_is_no_marker(tmp_path: Path, text: str) -> None:
    (tmp_path / "release.json").write_text(text)
    assert read_marker(str(tmp_path)) is None


def test_marker_of_another_directory_is_no_marker(tmp_path: Path) -> None:
    path = tmp_path / IDS[0]
    path.mkdir()
    write_marker(a_release(path))
    path.rename(tmp_path / IDS[1])
    assert read_marker(str(tmp_path / IDS[1])) is None


def test_releases_are_listed_in_order_of_sequence(tmp_path: Path) -> None:
    assert list_releases(str(tmp_path / "none")) == []
    for name, sequence in ((IDS[0], 10), (IDS[1], 9), (IDS[2], 11)):
        (tmp_path / name).mkdir()
        write_marker(a_release(tmp_path / name, sequence))
    assert [r.sequence for r in list_releases(str(tmp_path))] == [9, 10, 11]


def test_absent_removes_all_once(source: Source, host: FakeHost) -> None:
    old = build(source, host)["release_id"]
    request = source.request()
    predicted = ensure_absent(request, check_mode=True)
    assert predicted["changed"]
    assert source.releases.exists()
    result = ensure_absent(request, check_mode=False)
    assert result["removed"] == predicted["removed"] == [old]
    assert not source.releases.exists()
    assert not ensure_absent(request, check_mode=False)["changed"]


def test_absent_is_refused_while_in_use(source: Source, host: FakeHost) -> None:
    old = build(source, host)["release_id"]
    with pytest.raises(KeepaliveError, match=r"^protected: slots use " + old):
        ensure_absent(source.request(protected=[old]), check_mode=False)
    assert release_names(source) == [old]


def test_absent_leaves_foreign_files(source: Source, host: FakeHost) -> None:
    old = build(source, host)["release_id"]
    (source.releases / "database").touch()
    with pytest.raises(KeepaliveError, match="holds database, which is no release"):
        ensure_absent(source.request(), check_mode=False)
    assert release_names(source) == [old]


def test_index_url_travels_by_environment_alone(source: Source, host: FakeHost) -> None:
    url = "https://user:secret@host.example/simple"
    host.fails["install"] = "cannot reach {0}\nor http://me:word@other/".format(url)
    with pytest.raises(KeepaliveError) as failure:
        build(source, host, index_url=url, server_packages=["gunicorn==27.0.1"])
    assert "secret" not in str(failure.value)
    assert "word" not in str(failure.value)
    assert not any("secret" in part for call in host.calls for part in call)
    assert host.environments[-1]["PIP_INDEX_URL"] == url


def test_ca_bundle_is_pips_certificate_file(
    source: Source, host: FakeHost, tmp_path: Path
) -> None:
    with pytest.raises(
        KeepaliveError, match=r"^fastapi_service_ca_bundle: there is no file"
    ):
        build(source, host, ca_bundle="/nonexistent/ca.pem")
    (tmp_path / "ca.pem").touch()
    build(source, host, ca_bundle=str(tmp_path / "ca.pem"))
    assert host.environments[-1]["PIP_CERT"] == str(tmp_path / "ca.pem")


def test_server_packages_are_held_to_what_the_application_chose(
    source: Source, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, list[str]] = {}

    def record(path: str, lines: Sequence[str]) -> str:
        written[os.path.basename(path)] = list(lines)
        return path

    monkeypatch.setattr(release_build, "_write_lines", record)
    build(source, host, server_packages=["gunicorn==27.0.1"])
    assert written == {
        "constraints.txt": ["fastapi==0.140.0"],
        "server_packages.txt": ["gunicorn==27.0.1"],
    }
    assert "--require-hashes" not in host.pip("install")[0]


def test_project_beside_requirements_is_installed_without_dependencies(
    source: Source, host: FakeHost
) -> None:
    source.write("requirements.txt", "fastapi==0.140.0 --hash=sha256:00\n")
    source.write("setup.py", "")
    build(source, host, requirements="requirements.txt", extra_pip_args=["--pre"])
    first, second = host.pip("install")
    assert first[-4:] == ["--pre", "--require-hashes", "-r", "requirements.txt"]
    assert second[-3:-1] == ["--pre", "--no-deps"]


@pytest.mark.parametrize(
    ("files", "requirements", "expected"),
    [
        ({}, "", False),
        ({"setup.py": ""}, "r.txt", True),
        ({"pyproject.toml": "[tool.ruff]\n"}, "", False),
        ({"pyproject.toml": "[build-system]\n[project]\n"}, "r.txt", True),
        ({"pyproject.toml": "[project]\n"}, "", True),
        ({"pyproject.toml": "[project]\n"}, "r.txt", False),
        ({"pyproject.toml": "[project.urls]\n# [build-system]\n"}, "", False),
        ({"pyproject.toml": "[build-system]\n[tool.uv]\npackage = false\n"}, "", False),
        (
            {"pyproject.toml": "[build-system]\n[tool.poetry]\npackage-mode=false\n"},
            "",
            False,
        ),
    ],
)
def test_auto_installs_what_declares_a_build(
    tmp_path: Path, files: dict[str, str], requirements: str, expected: bool
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert installs_project(str(tmp_path), "auto", requirements) is expected
    assert installs_project(str(tmp_path), "never", requirements) is False


def test_always_needs_something_to_build(tmp_path: Path) -> None:
    with pytest.raises(
        KeepaliveError, match=r"^fastapi_service_install_project: always needs"
    ):
        installs_project(str(tmp_path), "always", "")
    (tmp_path / "pyproject.toml").touch()
    assert installs_project(str(tmp_path), "always", "")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fastapi==1 --hash=sha256:00", True),
        ("    --hash=sha256:00", True),
        ("--hash sha256:00", True),
        ("# fastapi==1 --hash=sha256:00", False),
        ("fastapi==1  # see --hash=sha256:00", False),
        ("fastapi==1", False),
        ("pkg @ https://host.example/a#x--hash=1", False),
    ],
)
def test_has_hash(tmp_path: Path, line: str, expected: bool) -> None:
    assert has_hash(line) is expected
    (tmp_path / "r.txt").write_text("a==1 \\\n{0}\n".format(line))
    assert file_has_hashes(str(tmp_path / "r.txt")) is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (OSError(errno.ENOSPC, ""), True),
        (OSError(errno.EDQUOT, ""), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        ("ERROR: [Errno 28] No space left on device: '/tmp/x'", True),
        ("ERROR: no such package", False),
    ],
)
def test_is_disk_full(said: object, expected: bool) -> None:
    assert is_disk_full(said) is expected  # type: ignore[arg-type]


def test_redact_leaves_plain_urls() -> None:
    text = "https://index.example/simple and git@host.example"
    assert redact(text, "") == text


def real_run(
    argv: Sequence[str],
    *,
    cwd: Optional[str] = None,
    env: Optional[Mapping[str, str]] = None,
) -> tuple[int, str, str]:
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(
        argv, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def make_wheel(directory: Path, name: str, version: str, *requires: str) -> str:
    """Write a wheel of one module; return its requirement line with hash."""
    directory.mkdir(exist_ok=True)
    path = directory / "{0}-{1}-py3-none-any.whl".format(name, version)
    info = "{0}-{1}.dist-info/".format(name, version)
    metadata = ["Metadata-Version: 2.1", "Name: " + name, "Version: " + version]
    metadata += ["Requires-Dist: " + requirement for requirement in requires]
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(name + ".py", "VERSION = {0!r}\n".format(version))
        wheel.writestr(info + "METADATA", "\n".join([*metadata, ""]))
        wheel.writestr(
            info + "WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr(info + "RECORD", "")
    return "{0}=={1} --hash=sha256:{2}".format(name, version, file_digest(str(path)))


def test_real_python_and_pip_build_offline_with_hashes(
    source: Source, tmp_path: Path
) -> None:
    wheels = tmp_path / "wheels"
    pinned = make_wheel(wheels, "demoweb", "1.0")
    make_wheel(wheels, "demoweb", "2.0")
    server = make_wheel(wheels, "demoserver", "3.0", "demoweb>=1")
    greedy = make_wheel(wheels, "demogreedy", "4.0", "demoweb>=2")
    source.write("requirements.txt", pinned + "\n")
    # Would break pip if the application's directory were on its sys.path.
    source.write("email.py", "raise RuntimeError\n")
    archive = str(tmp_path / "wheels.tar.gz")
    write_archive(str(wheels), list_wheels(str(wheels)), archive)
    request = {
        "requirements": "requirements.txt",
        "wheels_archive": archive,
        "wheels_digest": tree_digest(str(wheels), list_wheels(str(wheels))),
    }

    ours = source.request(**request, server_packages=[server])
    result = ensure_present(ours, real_run, check_mode=False)
    assert result["packages"] == ["demoserver==3.0", "demoweb==1.0"]
    probe = [result["venv_python"], "-c", "import demoweb; print(demoweb.VERSION)"]
    assert real_run(probe)[1] == "1.0\n"
    assert (Path(result["release_path"]) / "app/__pycache__").is_dir()

    theirs = source.request(**request, server_packages=[greedy])
    with pytest.raises(KeepaliveError, match=r"constraint\) demoweb==1\.0"):
        ensure_present(theirs, real_run, check_mode=False)
    assert release_names(source) == [result["release_id"]]
