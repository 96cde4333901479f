# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's limits that a service depends on."""

from __future__ import annotations

from pathlib import Path


def somaxconn() -> int:
    """Return the kernel's limit of any listen queue."""
    try:
        return int(Path("/proc/sys/net/core/somaxconn").read_text())
    except FileNotFoundError:
        # Kernels such as Debian 12's hide it from unprivileged containers, which
        # then cannot have changed what every network namespace begins with.
        return 4096
