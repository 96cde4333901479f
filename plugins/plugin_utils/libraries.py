# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The libraries that a report needs on the controller, asked before load is sent."""

from __future__ import annotations

from importlib.util import find_spec

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

# Package of the index by module.
_LIBRARIES = {"hdrh": "hdrhistogram", "matplotlib": "matplotlib", "scipy": "scipy"}


def check_libraries() -> None:
    """Raise KeepaliveError that names each library the controller lacks."""
    missing = [name for module, name in _LIBRARIES.items() if find_spec(module) is None]
    if missing:
        raise KeepaliveError(
            "the controller lacks {0}, which a report needs; install it beside "
            "ansible (pip install {1})".format(", ".join(missing), " ".join(missing))
        )
