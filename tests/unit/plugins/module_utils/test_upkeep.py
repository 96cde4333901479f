# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's program and timers: what is put on the host, and what systemd is told."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Set

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.runner import Result
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import Layout
from ansible_collections.keepalive.fastapi.plugins.module_utils.systemd import Systemd
from ansible_collections.keepalive.fastapi.plugins.module_utils.upkeep import (
    Recycling,
    Upkeep,
    units,
)


class Timers:
    """systemctl for timers: which are active, which enabled."""

    def __init__(self) -> None:
        self.active: Set[str] = set()
        self.enabled: Set[str] = set()
        self.unread: Set[str] = set()
        self.calls: List[str] = []

    def __call__(
        self,
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Result:
        assert (argv[0], cwd, env) == ("systemctl", None, None)
        verb, *names = [word for word in argv[1:] if not word.startswith("-")]
        if verb == "show":
            names = names[1:]
            return 0, self._state(names[0]), ""
        self.calls.append(" ".join([verb, *names]))
        for name in names:
            if verb == "enable":
                self.enabled.add(name)
            elif verb == "restart":
                self.active.add(name)
            elif verb == "disable":
                assert ("--now" in argv) == name.endswith(".timer")
                self.enabled.discard(name)
                self.active.discard(name)
        return 0, "", ""

    def _state(self, name: str) -> str:
        return "ActiveState={0}\nUnitFileState={1}\nNeedDaemonReload={2}\n".format(
            "active" if name in self.active else "inactive",
            "enabled" if name in self.enabled else "disabled",
            "yes" if name in self.unread else "no",
        )


@pytest.fixture
def timers() -> Timers:
    return Timers()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout("shop", tmp_path)


def put(
    layout: Layout,
    timers: Timers,
    recycling: Recycling,
    *,
    program: bytes = b"program",
    dry_run: bool = False,
) -> Upkeep:
    upkeep = Upkeep(layout, Systemd(timers), dry_run=dry_run)
    upkeep.put(program, units(layout, recycling))
    return upkeep


def there(layout: Layout) -> Dict[str, str]:
    found = [path for path in layout.root.rglob("*") if path.is_file()]
    return {path.name: path.read_text() for path in found}


BOTH = Recycling(schedule="Sun 04:00", spread_s=60, memory_mb=500, min_age_s=600)


def test_without_a_wish_there_is_the_program_and_the_way_back(
    layout: Layout, timers: Timers
) -> None:
    assert put(layout, timers, Recycling()).changed
    assert set(there(layout)) == {"fastapi-shop", "shop-revert.service"}
    assert layout.program.stat().st_mode & 0o777 == 0o755
    assert timers.calls == ["daemon-reload", "enable shop-revert.service"]
    assert timers.active == set()


def test_a_boot_goes_back_from_a_trial_only(layout: Layout, timers: Timers) -> None:
    put(layout, timers, Recycling())
    text = there(layout)["shop-revert.service"]
    assert "ConditionPathExists={0}\n".format(layout.trial) in text
    assert "ExecStart={0} revert --due\n".format(layout.program) in text


def test_timers_are_put_in_place_and_run(layout: Layout, timers: Timers) -> None:
    assert put(layout, timers, BOTH).changed
    assert timers.active == {"shop-recycle.timer", "shop-memory.timer"}
    assert timers.enabled == {*timers.active, "shop-revert.service"}
    assert timers.calls[0] == "daemon-reload"
    texts = there(layout)
    assert (
        "OnCalendar=Sun 04:00\nRandomizedDelaySec=60\n" in texts["shop-recycle.timer"]
    )
    assert texts["shop-memory.service"].count(
        "{0} recycle --above-memory-mb 500 --min-age-s 600\n".format(layout.program)
    )


def test_a_second_time_changes_nothing(layout: Layout, timers: Timers) -> None:
    put(layout, timers, BOTH)
    timers.calls.clear()
    again = put(layout, timers, BOTH)
    assert (again.changed, again.diff, timers.calls) == (False, [], [])


def test_another_schedule_restarts_its_timer_alone(
    layout: Layout, timers: Timers
) -> None:
    put(layout, timers, BOTH)
    timers.calls.clear()
    changed = put(layout, timers, Recycling("daily", 60, 500, 600))
    assert [each["after_header"] for each in changed.diff] == ["shop-recycle.timer"]
    assert timers.calls == [
        "daemon-reload",
        "enable shop-recycle.timer",
        "restart shop-recycle.timer",
    ]


def test_a_timer_that_somebody_stopped_runs_again(
    layout: Layout, timers: Timers
) -> None:
    put(layout, timers, BOTH)
    timers.active.remove("shop-memory.timer")
    assert put(layout, timers, BOTH).changed
    assert "shop-memory.timer" in timers.active


def test_what_systemd_has_not_read_is_read(layout: Layout, timers: Timers) -> None:
    put(layout, timers, BOTH)
    timers.unread.add("shop-memory.timer")
    timers.calls.clear()
    assert put(layout, timers, BOTH).changed
    assert timers.calls == [
        "daemon-reload",
        "enable shop-memory.timer",
        "restart shop-memory.timer",
    ]


def test_what_is_no_longer_wished_for_goes(layout: Layout, timers: Timers) -> None:
    put(layout, timers, BOTH)
    assert put(layout, timers, Recycling(memory_mb=500, min_age_s=600)).changed
    assert timers.active == {"shop-memory.timer"}
    assert "shop-recycle.service" not in there(layout)


def test_check_mode_tells_and_changes_nothing(layout: Layout, timers: Timers) -> None:
    would = put(layout, timers, BOTH, dry_run=True)
    assert would.changed
    assert len(would.diff) == 6
    assert (there(layout), timers.calls) == ({}, [])


def test_another_program_is_a_change_and_shown_by_its_digest(
    layout: Layout, timers: Timers
) -> None:
    put(layout, timers, Recycling())
    other = put(layout, timers, Recycling(), program=b"other")
    assert other.changed
    assert there(layout)["fastapi-shop"] == "other"
    assert other.diff[0]["before"] != other.diff[0]["after"]
    assert other.diff[0]["after"].startswith("sha256 ")


def test_removal_leaves_nothing(layout: Layout, timers: Timers) -> None:
    put(layout, timers, BOTH)
    upkeep = Upkeep(layout, Systemd(timers), dry_run=False)
    upkeep.remove()
    assert upkeep.changed
    assert (there(layout), timers.active, timers.enabled) == ({}, set(), set())
    again = Upkeep(layout, Systemd(timers), dry_run=False)
    again.remove()
    assert not again.changed


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"schedule": "daily\nExecStart=/bin/sh"}, "one line"),
        ({"memory_mb": -1}, "recycle_memory_mb is -1"),
        ({"min_age_s": -1}, "recycle_min_age_s is -1"),
        ({"spread_s": -1}, "recycle_spread_s is -1"),
    ],
)
def test_what_cannot_be_is_refused(wish: Dict[str, object], said: str) -> None:
    with pytest.raises(KeepaliveError, match=said):
        Recycling(**wish)  # type: ignore[arg-type]


def test_a_schedule_that_systemd_does_not_know_is_refused() -> None:
    def systemd_analyze(
        argv: Sequence[str],
        *,
        cwd: Optional[str] = None,
        env: Optional[Mapping[str, str]] = None,
    ) -> Result:
        assert (cwd, env) == (None, None)
        assert list(argv) == ["systemd-analyze", "calendar", "--", "now and then"]
        text = "Failed to parse calendar specification 'now and then': Invalid argument"
        return 1, "", text

    with pytest.raises(KeepaliveError, match="Invalid argument"):
        Recycling("now and then").check_schedule(systemd_analyze)
    Recycling().check_schedule(systemd_analyze)
