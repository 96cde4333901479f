# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_reload import (
    ErrorLog,
    find_children,
    find_master,
    reload_workers,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.proc_stat import (
    parse_parent,
)

MASTER = 100
# Captured from /proc/PID/stat; the name and the two PIDs are the test's.
STAT = (
    "{0} ({1}) S {2} 100 100 0 -1 4194304 100 0 0 0 0 0 0 0 20 0 1 0 185963 3133440 "
    "412 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"
)


def add_process(proc: Path, pid: int, parent: int, name: str = "nginx") -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(STAT.format(pid, name, parent))
    (proc / str(pid) / "comm").write_text(name + "\n")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "net").mkdir()
    add_process(proc, MASTER, 1)
    add_process(proc, 101, MASTER)
    add_process(proc, 900, 1, name="cron) S 100 (x")
    return proc


@pytest.fixture
def on_signal(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    def answer(reaction: Callable[[], None]) -> None:
        def kill(pid: int, number: int) -> None:
            assert (pid, number) == (MASTER, signal.SIGHUP)
            reaction()

        monkeypatch.setattr(os, "kill", kill)

    return answer


def test_the_parent_is_read_behind_any_name() -> None:
    assert parse_parent(STAT.format(7, "a) S 9 (b", 42)) == 42


def test_children_of_the_master(proc: Path) -> None:
    assert find_children(MASTER, proc) == {101}


@pytest.mark.parametrize("text", ["", "no pid", "555", "900"])
def test_no_master_without_a_process_called_nginx(
    proc: Path, tmp_path: Path, text: str
) -> None:
    pid_file = tmp_path / "nginx.pid"
    assert find_master(pid_file, proc) is None
    pid_file.write_text(text)
    assert find_master(pid_file, proc) is None
    pid_file.write_text("100\n")
    assert find_master(pid_file, proc) == MASTER


def test_a_new_worker_proves_the_reload(
    proc: Path, tmp_path: Path, on_signal: Callable[[Callable[[], None]], None]
) -> None:
    on_signal(lambda: add_process(proc, 102, MASTER))
    assert 0 <= reload_workers(MASTER, 5, tmp_path / "error.log", proc) < 5


def test_a_failed_reload_shows_what_nginx_wrote_since(
    proc: Path, tmp_path: Path, on_signal: Callable[[Callable[[], None]], None]
) -> None:
    log = tmp_path / "error.log"
    log.write_text("[emerg] long ago\n")

    def fail_to_bind() -> None:
        with log.open("a") as file:
            file.write("[emerg] still could not bind()\n")

    on_signal(fail_to_bind)
    with pytest.raises(KeepaliveError, match="still could not bind") as caught:
        reload_workers(MASTER, 1, log, proc)
    assert "long ago" not in str(caught.value)


def test_a_master_that_is_gone_is_an_error_at_once(
    proc: Path, tmp_path: Path, on_signal: Callable[[Callable[[], None]], None]
) -> None:
    def gone() -> None:
        raise ProcessLookupError

    on_signal(gone)
    with pytest.raises(KeepaliveError, match=r"pid 100"):
        reload_workers(MASTER, 60, tmp_path / "error.log", proc)


def test_the_log_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    path.write_text("a long line before rotation\n")
    log = ErrorLog(path)
    assert log.tail() == "(nothing)"
    path.write_text("rotated\n")
    assert log.tail() == "rotated"
    path.write_text("".join("line {0}\n".format(n) for n in range(100)))
    assert log.tail().splitlines()[0] == "line 80"
    path.unlink()
    assert "unreadable" in log.tail()
