# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program on the host: packed and run as a person would, and when it waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.memory import (
    unit_memory_mb,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.program import (
    last_attempt_s,
    note_attempt,
    reason_to_wait,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.program_archive import (
    packed,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "fastapi-shop"
    path.write_bytes(packed("shop", "/srv/shop/releases", sys.executable))
    path.chmod(0o755)
    return path


def run(program: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    # As root has it on a host: nothing of this environment's.
    return subprocess.run(
        [sys.executable, "-I", "-S", str(program), *words],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_on_python_alone(program: Path) -> None:
    helped = run(program, "recycle", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "--above-memory-mb" in helped.stdout


def test_what_it_does_not_know_is_refused(program: Path) -> None:
    refused = run(program, "restart")
    assert refused.returncode == 2
    assert "invalid choice: 'restart'" in refused.stderr


def test_the_same_code_packs_to_the_same_file() -> None:
    once = packed("shop", "/srv/shop/releases", sys.executable)
    assert once == packed("shop", "/srv/shop/releases", sys.executable)
    assert once != packed("shop", "/srv/other", sys.executable)


@pytest.mark.parametrize(
    ("memory_mb", "age_s", "tried_before_s", "limits", "said"),
    [
        (400.0, 9.0, 9.0, (0, 0), ""),
        (0.0, 0.0, 0.0, (0, 0), ""),
        (400.0, 9.0, 9.0, (399, 9), ""),
        (400.0, 9.0, float("inf"), (399, 9), ""),
        (400.0, 9.0, 9.0, (400, 0), "400.0 MB, not more than 400"),
        (400.0, 9.0, 9.0, (399, 10), "9.0 s only, not 10"),
        (400.0, 19.0, 9.0, (399, 10), "was tried 9.0 s ago"),
    ],
)
def test_a_recycle_waits_for_its_limits(
    memory_mb: float, age_s: float, tried_before_s: float, limits: Any, said: str
) -> None:
    facts = {"memory_mb": memory_mb, "age_s": age_s, "tried_before_s": tried_before_s}
    waits = reason_to_wait(facts, *limits)
    assert said in waits
    assert bool(waits) == bool(said)


def test_an_attempt_is_remembered(tmp_path: Path) -> None:
    layout = Layout("shop", tmp_path)
    assert last_attempt_s(layout) == -float("inf")
    note_attempt(layout, 1234.5)
    assert last_attempt_s(layout) == pytest.approx(1234.5, abs=1)
    layout.recycled.write_text("")
    assert last_attempt_s(layout) == -float("inf")


def test_memory_of_a_unit_is_that_of_its_processes() -> None:
    cgroup = Path("/proc/self/cgroup").read_text()
    units = {
        part
        for line in cgroup.splitlines()
        for part in line.split("/")
        if part.endswith(".service")
    }
    if units:
        assert unit_memory_mb(units.pop()) > 1
    assert unit_memory_mb("nothing-runs-in-this.service") == 0


def test_memory_counts_what_is_shared_once_and_what_is_swapped(tmp_path: Path) -> None:
    for pid, pss in (("11", 3000), ("12", 1000)):
        folder = tmp_path / pid
        folder.mkdir()
        (folder / "cgroup").write_text("0::/system.slice/system-shop.slice/a.service\n")
        (folder / "smaps_rollup").write_text(
            "55d0-7ffd ---p 00000000 00:00 0    [rollup]\n"
            "Rss:                9000 kB\nPss:                {0} kB\n"
            "Pss_Anon:           7000 kB\nSwapPss:             500 kB\n".format(pss)
        )
    (tmp_path / "13").mkdir()
    (tmp_path / "13" / "cgroup").write_text("0::/system.slice/b.service\n")
    assert unit_memory_mb("a.service", tmp_path) == pytest.approx(5000 * 1024 / 1e6)


@pytest.mark.skipif(os.geteuid() == 0, reason="is root")
def test_others_than_root_are_sent_away(program: Path) -> None:
    assert "run it as root" in run(program, "status").stderr
