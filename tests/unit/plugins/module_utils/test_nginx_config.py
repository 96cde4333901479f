# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import fcntl
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import (
    nginx_config,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_config import (
    Host,
    Request,
    configure,
    find_nginx,
    parse_version,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_files import (
    PENDING_MARKER,
    ConfigFile,
)

MASTER, OLD_WORKER, NEW_WORKER = 100, 101, 102
# Said by nginx 1.22.1.
REJECTED = (
    '2026/11/22 18:03:50 [emerg] 25852#25852: invalid parameter "bogus" in '
    "/etc/nginx/conf.d/z.conf:1\n"
    "nginx: configuration file /etc/nginx/nginx.conf test failed\n"
)
ACCEPTED = (
    "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n"
    "nginx: configuration file /etc/nginx/nginx.conf test is successful\n"
)
WARNED = '2026/11/22 18:03:50 [warn] 1#1: conflicting server name "a" on 0.0.0.0:80\n'


class FakeRunner:
    """Stands for unshare and nginx; keeps what they were shown."""

    def __init__(self) -> None:
        self.answer: Tuple[int, str, str] = (0, "", ACCEPTED)
        self.argv: List[List[str]] = []
        self.staged: Dict[str, str] = {}
        self.effect: Callable[[], None] = lambda: None

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Tuple[int, str, str]:
        assert cwd is None
        assert env is None
        if argv[-1] == "-v":
            return 0, "", "nginx version: nginx/1.22.1\n"
        self.argv.append(list(argv))
        stage = Path(argv[argv.index("sh", 5) + 1])
        assert stage.parent.stat().st_mode & 0o777 == 0o700
        self.staged = {
            str(path.relative_to(stage)): path.read_text()
            for path in stage.rglob("*")
            if path.is_file()
        }
        self.effect()
        return self.answer


@pytest.fixture
def run() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    # Its nginx starts a new worker when it is told to reload.
    proc = tmp_path / "proc"
    for name in ("scratch", "proc/net", "log"):
        (tmp_path / name).mkdir(parents=True)
    (proc / "net" / "tcp").write_text("header\n")

    def add_worker(pid: int, parent: int) -> None:
        (proc / str(pid)).mkdir()
        (proc / str(pid) / "comm").write_text("nginx\n")
        (proc / str(pid) / "stat").write_text("{0} (nginx) S {1}".format(pid, parent))

    add_worker(MASTER, 1)
    add_worker(OLD_WORKER, MASTER)
    (tmp_path / "nginx.pid").write_text("100\n")
    monkeypatch.setattr(os, "kill", lambda *_args: add_worker(NEW_WORKER, MASTER))
    return Host(
        nginx="/usr/sbin/nginx",
        scratch_dir=str(tmp_path / "scratch"),
        proc=proc,
        pid_file=tmp_path / "nginx.pid",
        error_log=tmp_path / "log" / "error.log",
        lock_file=tmp_path / "lock",
    )


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    config_dir = tmp_path / "etc"
    (config_dir / "conf.d").mkdir(parents=True)
    (config_dir / "nginx.conf").write_text("events {}\n")
    (config_dir / "conf.d" / "old.conf").write_text("old\n")
    return Request(
        files=[ConfigFile("conf.d/shop.conf", b"shop\n", 0o644)],
        absent=["conf.d/old.conf"],
        config_dir=config_dir,
        reload=True,
        reload_timeout_s=1,
    )


def contents(request: Request) -> Dict[str, str]:
    return {
        str(path.relative_to(request.config_dir)): path.read_text()
        for path in request.config_dir.rglob("*")
        if path.is_file()
    }


BEFORE = {"nginx.conf": "events {}\n", "conf.d/old.conf": "old\n"}
AFTER = {"nginx.conf": "events {}\n", "conf.d/shop.conf": "shop\n"}


def test_files_are_validated_put_in_place_and_reloaded(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    outcome = configure(request_, host, run)
    assert run.staged == contents(request_) == AFTER
    assert (outcome.changed, outcome.validated, outcome.reloaded) == (True, True, True)
    assert outcome.files == ["conf.d/shop.conf"]
    assert outcome.removed == ["conf.d/old.conf"]
    assert [(each["before"], each["after"]) for each in outcome.diff] == [
        ("", "shop\n"),
        ("old\n", ""),
    ]
    assert outcome.nginx_version == "1.22.1"
    assert outcome.seconds_to_reload is not None
    assert list(Path(host.scratch_dir).iterdir()) == []


def test_nginx_sees_the_staged_tree_in_place_of_the_real_one(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    configure(request_, host, run)
    (argv,) = run.argv
    assert argv[:6] == ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    assert argv[9:] == [
        str(request_.config_dir),
        "/usr/sbin/nginx",
        "-T",
        "-c",
        "{0}/nginx.conf".format(request_.config_dir),
    ]


def test_a_second_run_neither_validates_nor_reloads(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    configure(request_, host, run)
    run.argv.clear()
    outcome = configure(request_, host, run)
    assert run.argv == []
    assert (outcome.changed, outcome.validated, outcome.reloaded) == (False,) * 3
    assert outcome.diff == []


def test_check_mode_validates_and_changes_nothing(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    outcome = configure(request_, host, run, check_mode=True)
    assert (outcome.changed, outcome.validated, outcome.reloaded) == (True, True, False)
    assert run.staged == AFTER
    assert contents(request_) == BEFORE
    assert not host.lock_file.exists()


def test_check_mode_before_nginx_is_installed_warns(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    shutil.rmtree(request_.config_dir)
    bare = replace(host, nginx=None)
    outcome = configure(request_, bare, run, check_mode=True)
    assert (outcome.changed, outcome.validated) == (True, False)
    assert "not installed" in outcome.warnings[0]
    with pytest.raises(KeepaliveError, match="install it first"):
        configure(request_, bare, run)


def test_what_nginx_rejects_is_never_put_in_place(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    run.answer = (1, "", REJECTED)
    with pytest.raises(KeepaliveError, match="untouched") as caught:
        configure(request_, host, run)
    assert REJECTED.strip() in str(caught.value)
    assert contents(request_) == BEFORE
    assert list(Path(host.scratch_dir).iterdir()) == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (1, "unshare: unshare failed: Operation not permitted\n"),
        (96, "mount: /etc/nginx: permission denied.\n"),
    ],
)
def test_a_missing_privilege_is_not_taken_for_a_bad_configuration(
    request_: Request, host: Host, run: FakeRunner, status: int, said: str
) -> None:
    run.answer = (status, "", said)
    with pytest.raises(KeepaliveError, match="CAP_SYS_ADMIN"):
        configure(request_, host, run)
    assert contents(request_) == BEFORE


def test_warnings_of_nginx_are_handed_on(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    run.answer = (0, "", WARNED + ACCEPTED)
    outcome = configure(request_, host, run)
    assert outcome.warnings == [WARNED.strip()]
    assert "warnings" not in outcome.as_result()


def test_a_name_that_another_site_has_is_refused(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    run.answer = (0, "", WARNED.replace('"a"', '"shop.test"') + ACCEPTED)
    site = ConfigFile(
        "conf.d/b.conf", b"server { server_name x.test shop.test; }\n", 0o644
    )
    claiming = replace(request_, files=[site])
    with pytest.raises(KeepaliveError, match=r"shop\.test is another site's"):
        configure(claiming, host, run)
    assert contents(request_) == BEFORE


def test_a_test_leaves_no_empty_log(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    made = host.error_log.parent / "new.access.log"
    kept = host.error_log.parent / "old.access.log"
    kept.touch()
    run.effect = made.touch
    assert configure(request_, host, run, check_mode=True).validated
    assert not made.exists()
    assert kept.exists()


def test_check_mode_may_leave_the_test_out(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    run.answer = (1, "", "nginx: [emerg] unknown variable\n")
    untested = replace(request_, validate_in_check_mode=False)
    assert configure(untested, host, run, check_mode=True).changed
    with pytest.raises(KeepaliveError, match="unknown variable"):
        configure(untested, host, run)


def test_a_port_held_by_another_program_is_refused(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    fixture = Path(__file__).parent / "fixtures" / "proc_net_tcp.txt"
    (host.proc / "net" / "tcp").write_text(fixture.read_text())
    run.answer = (
        0,
        "# configuration file /etc/nginx/nginx.conf:\nserver { listen 80; }\n",
        ACCEPTED,
    )
    with pytest.raises(KeepaliveError, match=r"port 80 is held .* untouched"):
        configure(request_, host, run, check_mode=True)
    assert contents(request_) == BEFORE


def test_a_reload_that_does_not_happen_is_undone_and_tried_again_next_time(
    request_: Request, host: Host, run: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda *args: signals.append(args))
        with pytest.raises(KeepaliveError, match="no new worker within 1 s") as caught:
            configure(request_, host, run)
    assert "old files are back" in str(caught.value)
    assert len(signals) == 1
    left = contents(request_)
    assert left.pop(PENDING_MARKER)
    assert left == BEFORE
    unchanged = replace(request_, files=[], absent=[])
    outcome = configure(unchanged, host, run)
    assert (outcome.changed, outcome.reloaded) == (True, True)
    assert contents(request_) == BEFORE


def test_a_run_killed_before_its_reload_is_finished_by_the_next(
    request_: Request, host: Host, run: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for SIGKILL: nothing may be cleaned up after it."""

    with monkeypatch.context() as patch:

        def die(*_args: object) -> None:
            raise Killed

        patch.setattr(nginx_config, "_reload_or_restore", die)
        with pytest.raises(Killed):
            configure(request_, host, run)
    assert contents(request_).keys() == {*AFTER, PENDING_MARKER}
    expected = configure(request_, host, run, check_mode=True)
    assert (expected.changed, expected.diff, expected.reloaded) == (True, [], False)
    outcome = configure(request_, host, run)
    assert (outcome.changed, outcome.reloaded) == (True, True)
    assert contents(request_) == AFTER


def test_a_full_disk_changes_nothing_and_owes_no_reload(
    request_: Request, host: Host, run: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def full(descriptor: int) -> None:
        written = Path("/proc/self/fd/{0}".format(descriptor)).readlink()
        if request_.config_dir in written.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeepaliveError, match=r"No space left.*untouched"):
        configure(request_, host, run)
    assert contents(request_) == BEFORE


def test_a_stopped_nginx_is_not_reloaded(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    host.pid_file.write_text("")
    outcome = configure(request_, host, run)
    assert (outcome.changed, outcome.reloaded) == (True, False)
    assert outcome.seconds_to_reload is None
    assert contents(request_) == AFTER


def test_without_reload_a_pending_one_stays_owed(
    request_: Request, host: Host, run: FakeRunner
) -> None:
    marker = request_.config_dir / PENDING_MARKER
    marker.write_text("")
    quiet = replace(request_, reload=False)
    outcome = configure(quiet, host, run)
    assert (outcome.changed, outcome.reloaded) == (True, False)
    assert marker.exists()
    assert not configure(quiet, host, run).changed


def test_a_run_waits_for_the_lock_and_gives_up_clearly(
    request_: Request, host: Host, run: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx_config, "_LOCK_TIMEOUT_S", 0.0)
    with host.lock_file.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(KeepaliveError, match="another nginx_config task"):
            configure(request_, host, run)
    assert contents(request_) == BEFORE
    assert configure(request_, host, run).changed


def test_a_planted_link_is_not_opened_as_the_lock(
    request_: Request, host: Host, run: FakeRunner, tmp_path: Path
) -> None:
    host.lock_file.symlink_to(tmp_path / "victim")
    with pytest.raises(KeepaliveError, match="lock"):
        configure(request_, host, run)
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config_dir": Path("/nonexistent/nginx")}, "config_dir"),
        ({"reload_timeout_s": 0}, "reload_timeout_s"),
    ],
)
def test_bad_arguments_are_named(
    request_: Request,
    host: Host,
    run: FakeRunner,
    change: Dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(KeepaliveError, match=message):
        configure(replace(request_, **change), host, run)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nginx version: nginx/1.22.1\n", "1.22.1"),
        ("nginx version: nginx/1.18.0 (Ubuntu)\n", "1.18.0"),
        ("nginx version: openresty/1.25.3.1\n", "1.25.3.1"),
        ("command not found", None),
    ],
)
def test_versions(text: str, version: Optional[str]) -> None:
    assert parse_version(text) == version


def test_nginx_is_found_by_path_only_if_it_can_be_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "my-nginx"
    program.write_text("")
    assert find_nginx("my-nginx") is None
    program.chmod(0o755)
    assert find_nginx("my-nginx") == find_nginx(str(program)) == str(program)
