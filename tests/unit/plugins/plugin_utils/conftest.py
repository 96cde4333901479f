# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.keepalive.fastapi.tests.unit.plugins.plugin_utils import (
    benchmark_study,
)


@pytest.fixture
def study() -> benchmark_study.Study:
    return benchmark_study.Study()
