# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import cpu_time

# Linux 6.1: nginx's master, one of its workers, and a name that means harm.
STATS = {
    91: "91 (nginx) S 1 91 91 0 -1 4194624 95 310 0 0 3 4 50 60 20 0 1 0 8123 5 1",
    92: "92 (nginx) S 91 91 91 0 -1 4194624 95 0 0 0 100 200 0 0 20 0 1 0 8123 5 1",
    93: "93 (a) R 1 (nginx) S 92 93 93 0 -1 0 1 0 0 0 7 0 0 0 20 0 1 0 8123 5 1",
}
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for pid, stat in STATS.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(stat + " 0\n")
    (tmp_path / "stat").write_text("cpu  9 0 9 99 0 0 3 42 0 0\ncpu0 9 0\n")
    (tmp_path / "loadavg").write_text("1.25 0.50 0.20 2/345 6789\n")
    (tmp_path / "self").mkdir()
    return tmp_path


def test_a_group_of_processes(proc: Path) -> None:
    processes = cpu_time.read_processes(proc)
    nginx = cpu_time.named(processes, "nginx")
    assert nginx == {91, 92}
    assert cpu_time.cpu_s(processes, nginx) == pytest.approx(417 * TICK_S)
    assert cpu_time.family(processes, 91) == {91, 92, 93}
    assert cpu_time.family(processes, 92) == {92, 93}
    assert cpu_time.family(processes, 4711) == set()


def test_the_host(proc: Path) -> None:
    assert cpu_time.steal_s(proc) == pytest.approx(42 * TICK_S)
    assert cpu_time.load_1m(proc) == 1.25


def test_this_process_on_this_host() -> None:
    proc = Path("/proc")
    before = cpu_time.read_processes(proc)[os.getpid()].cpu_s
    begun = time.process_time()
    while time.process_time() - begun < 5 * TICK_S:
        pass
    after = cpu_time.read_processes(proc)[os.getpid()].cpu_s
    assert after > before
    assert cpu_time.steal_s(proc) >= 0
