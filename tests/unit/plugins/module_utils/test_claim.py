# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.claim import (
    current,
    give_up,
    take,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import BusyError
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout("shop", tmp_path)


def test_one_at_a_time(layout: Layout) -> None:
    assert take(layout, "mine", 60, 1000)
    with pytest.raises(BusyError, match="by mine, for another 50 s"):
        take(layout, "theirs", 60, 1010)
    assert not give_up(layout, "theirs", 1010)
    assert give_up(layout, "mine", 1010)
    assert take(layout, "theirs", 60, 1010)


def test_the_same_holder_goes_on(layout: Layout) -> None:
    take(layout, "mine", 60, 1000)
    assert not take(layout, "mine", 60, 1050)
    claim = current(layout, 1100)
    assert claim
    assert claim.ends_s == 1110


def test_it_ends_by_itself(layout: Layout) -> None:
    take(layout, "mine", 60, 1000)
    assert current(layout, 1060) is None
    assert take(layout, "theirs", 60, 1060)


def test_what_cannot_be_read_is_none(layout: Layout) -> None:
    layout.claim.parent.mkdir()
    layout.claim.write_text("{")
    assert current(layout, 1000) is None
    assert take(layout, "mine", 60, 1000)


def test_nothing_to_give_up(layout: Layout) -> None:
    assert not give_up(layout, "mine", 1000)
