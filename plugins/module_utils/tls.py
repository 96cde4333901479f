# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How this collection's clients speak TLS."""

from __future__ import annotations

import ssl


def client_context(*, check: bool) -> ssl.SSLContext:
    """Return what wraps a client's connection, which checks certificates or none."""
    context = ssl.create_default_context()
    if not check:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
