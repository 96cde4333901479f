# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one root of every error this collection's library code raises."""

from __future__ import annotations


class KeepaliveError(Exception):
    """A refusal or failure that a person can act on.

    The message names the cause and the next thing to do. Library code raises
    it; only a module's ``main()`` (or a plugin's entry point) turns it into a
    failed task.
    """


class NotReadyError(KeepaliveError):
    """A slot that was started did not come to answer as expected."""


class BusyError(KeepaliveError):
    """Somebody else is at work on the same thing; it can be tried again later."""
