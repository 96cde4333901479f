# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from hypothesis import settings

# How long an example takes is the computer's affair, not the test's.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
