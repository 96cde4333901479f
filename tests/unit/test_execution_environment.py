# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX is given to run the collection in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_it_brings_what_the_reports_need_in_the_versions_that_are_tested() -> None:
    named = yaml.safe_load((ROOT / "meta/execution-environment.yml").read_text())
    needed = (ROOT / named["dependencies"]["python"]).read_text().splitlines()
    tested = (ROOT / "pyproject.toml").read_text()
    assert needed
    assert all('"{0}"'.format(each) in tested for each in needed)
    assert (ROOT / named["dependencies"]["system"]).exists()


def test_ansible_builder_accepts_its_definition(tmp_path: Path) -> None:
    argv = [
        str(Path(sys.executable).parent / "ansible-builder"),
        "create",
        "--file",
        str(ROOT / "examples/execution-environment.yml"),
        "--context",
        str(tmp_path),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ansible-core" in (tmp_path / "Containerfile").read_text()
