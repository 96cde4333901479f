# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of loss_probe: tells how much of a long run has passed."""

from __future__ import annotations

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.progress import (
    TellingAction,
)


class ActionModule(TellingAction):
    """The module as it is, with a line on the terminal every ten seconds."""

    module = "loss_probe"

    def subject(self) -> str:
        return "{0} lanes".format(len(self._task.args.get("lanes") or ()))
