# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible loads all filters of a collection for a task that uses one of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).parents[4] / "plugins" / "filter"
PACKAGE = "ansible_collections.keepalive.fastapi.plugins.filter."


def test_no_filter_brings_a_large_library() -> None:
    modules = [PACKAGE + path.stem for path in PLUGINS.glob("*.py")]
    assert modules
    code = "import sys, {0}; print(*sys.modules)".format(", ".join(modules))
    paths = "import sys; sys.path[:] = {0!r}; ".format(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", paths + code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert PACKAGE + "keepalive_chain" in loaded
    assert not loaded & {"scipy", "numpy", "matplotlib", "hdrh"}
