# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter by which the roles judge their variables."""

from __future__ import annotations

from typing import Any, Callable, Dict

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.refusals import refusals


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., Any]]:
        return {"refusals": refusals}
