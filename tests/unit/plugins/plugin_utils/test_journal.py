# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    BusyError,
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.journal import (
    Journal,
    ended,
    open_journal,
    unfinished,
)


def nobody(_begun: Mapping[str, Any]) -> bool:
    return False


def begun(folder: Path, service: str = "shop") -> Journal:
    return open_journal(
        folder, service, {"controller": "ctl", "pid": 1}, nobody, resume=True
    )


def test_a_new_one_notes_who_began(tmp_path: Path) -> None:
    (event,) = begun(tmp_path / "rollouts").events()
    assert (event["event"], event["service"], event["pid"]) == ("begin", "shop", 1)
    assert event["at"].endswith("+00:00")


def test_one_that_has_not_ended_goes_on(tmp_path: Path) -> None:
    first = begun(tmp_path)
    first.note("before", host="a", deployment="old")
    again = begun(tmp_path)
    again.note("before", host="a", deployment="new")
    again.note("before", host="b", deployment="old b")
    assert again.id == first.id
    assert again.before() == {"a": "old", "b": "old b"}


def test_after_its_end_there_is_another(tmp_path: Path) -> None:
    first = begun(tmp_path)
    first.note("end", outcome="passed")
    assert unfinished(tmp_path, "shop") is None
    second = begun(tmp_path)
    assert second.id > first.id
    assert second.before() == {}


def test_one_that_is_given_up_is_not_gone_on_with(tmp_path: Path) -> None:
    first = begun(tmp_path)
    first.note("before", host="a", deployment="old")
    second = open_journal(tmp_path, "shop", {"pid": 1}, nobody, resume=False)
    assert first.has_ended
    assert second.id != first.id
    assert second.before() == {}


def test_hosts_are_claimed_by_one_name_all_the_time(tmp_path: Path) -> None:
    first = begun(tmp_path)
    assert first.holder == first.id + "@ctl"
    open_journal(tmp_path, "shop", {"controller": "x", "pid": 2}, nobody, resume=True)
    assert first.holder == first.id + "@ctl"


def test_who_may_have_left_claims(tmp_path: Path) -> None:
    first = begun(tmp_path)
    assert ended(tmp_path, "shop") == []
    first.note("end")
    begun(tmp_path)
    assert ended(tmp_path, "shop") == [first.holder]


def test_services_are_apart(tmp_path: Path) -> None:
    assert begun(tmp_path, "shop").id != begun(tmp_path, "shop-b").id
    assert len(begun(tmp_path, "shop").events()) == 2


def test_one_that_runs_is_left_alone(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(BusyError, match=r"under way on this controller \(process 1\)"):
        open_journal(
            tmp_path, "shop", {"pid": 2}, lambda each: each["pid"] == 1, resume=False
        )


def test_another_controllers_is_taken_over_only_if_told_to(tmp_path: Path) -> None:
    first = begun(tmp_path)

    def unknown(_begun: Mapping[str, Any]) -> None:
        return None

    here = {"controller": "here", "pid": 2}
    with pytest.raises(BusyError, match=r"on the controller ctl .*_take_over to true"):
        open_journal(tmp_path, "shop", here, unknown, resume=True)
    taken = open_journal(tmp_path, "shop", here, unknown, resume=True, take_over=True)
    assert taken.id == first.id


def test_a_line_cut_short_is_left_out(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    with journal.path.open("a") as stream:
        stream.write('{"event": "en')
    assert [each["event"] for each in journal.events()] == ["begin"]
    assert not journal.has_ended


@pytest.mark.parametrize("service", ["", "../shop", "Shop", "*"])
def test_a_name_that_is_no_services(tmp_path: Path, service: str) -> None:
    with pytest.raises(KeepaliveError, match="no service can be called"):
        begun(tmp_path, service)
