# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import threading
from typing import List

import pytest
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.progress import (
    telling_time,
)


def test_time_is_told_while_something_goes_on() -> None:
    told: List[int] = []
    twice = threading.Event()

    def say(seconds: int) -> None:
        told.append(seconds)
        if len(told) > 1:
            twice.set()

    with telling_time(say, every_s=0.01):
        assert twice.wait(30)
    assert told == sorted(told)


def test_it_ends_with_an_error_too() -> None:
    with pytest.raises(ValueError, match="x"), telling_time(lambda _s: None):
        raise ValueError("x")
