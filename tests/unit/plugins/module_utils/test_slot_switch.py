# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch against a host that is a folder, a model of systemd and a clock."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from dataclasses import replace
from typing import Callable, Dict, Iterator, List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import (
    slot_switch,
    slots,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import Probe
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    DRAIN_INTERVAL_S,
    DRAIN_ZEROS,
    LOCK_TIMEOUT_S,
    Outcome,
    Switch,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slots import (
    Layout,
    SlotFiles,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.host import (
    GROUP,
    PLAN,
    Host,
    PowerLossError,
    plan,
)


@contextmanager
def untouched(host: Host) -> Iterator[None]:
    """Hold that the live slot is after a failure what it was before."""
    units = host.layout.units("blue")
    before = [replace(host.unit(unit)) for unit in units]

    def tree() -> Dict[str, str]:
        found = host.tree()
        return {k: found[k] for k in found if "green" not in k and "history" not in k}

    held = tree()
    yield
    assert [host.unit(unit) for unit in units] == before
    assert tree() == held
    assert not any("blue" in name for call in host.calls for name in call)


def assert_live(host: Host, slot: str, release: str) -> None:
    """Hold that one slot serves, now and after a reboot, and the other does not."""
    layout = host.layout
    assert slots.live_slot(layout) == slot
    assert os.readlink(layout.live_link) == slot + ".sock"
    files = slots.read_slot(layout, slot)
    assert files is not None
    assert files.release == release + "\n"
    assert layout.socket(slot).is_socket()
    assert host.running() == host.enabled() == sorted(layout.units(slot))
    assert layout.tmpfiles.read_text() == slots.boot_record(layout, slot, GROUP)


# --- a switch that goes well


def test_the_first_switch(host: Host, switch: Switch) -> None:
    outcome = switch.converge(PLAN)
    assert outcome == Outcome(
        changed=True, slot_from="", slot_to="blue", actions=["switch"]
    )
    assert_live(host, "blue", "one")
    assert set(host.owners) == set(host.layout.socket_dirs)
    assert set(host.owners.values()) == {(0, os.getgid())}
    for folder in host.layout.socket_dirs:
        assert folder.stat().st_mode & 0o777 == 0o750


def test_the_same_again_changes_nothing(live: Host, switch: Switch) -> None:
    before = live.tree()
    outcome = switch.converge(PLAN)
    assert outcome == Outcome(slot_from="blue", slot_to="blue")
    assert live.calls == []
    assert live.tree() == before


@pytest.mark.parametrize("name", SlotFiles.__dataclass_fields__)
def test_any_changed_file_goes_to_the_other_slot(
    live: Host, switch: Switch, name: str
) -> None:
    files = replace(PLAN.files, **{name: "changed\n"})
    outcome = switch.converge(replace(PLAN, files=files))
    assert (outcome.slot_from, outcome.slot_to) == ("blue", "green")
    assert outcome.actions == ["switch"]
    assert_live(live, "green", files.release.strip())
    assert slots.read_slot(live.layout, "blue") == PLAN.files


def test_there_and_back(live: Host, switch: Switch) -> None:
    switch.converge(plan("two"))
    outcome = switch.converge(plan("three"))
    assert (outcome.slot_from, outcome.slot_to) == ("green", "blue")
    assert_live(live, "blue", "three")


def test_the_seconds_to_ready(host: Host, switch: Switch) -> None:
    assert switch.converge(plan("slow")).seconds_to_ready == pytest.approx(5, abs=0.2)
    assert_live(host, "blue", "slow")


def test_a_probe_that_takes_long_is_given_time(host: Host, switch: Switch) -> None:
    switch.converge(plan("ponder"))
    assert_live(host, "blue", "ponder")


def test_the_next_boot_is_told_before_the_rename(
    live: Host, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip = slots.point_live_at

    def check(layout: Layout, slot: str) -> None:
        assert live.enabled() == sorted([*layout.units("blue"), *layout.units("green")])
        assert layout.tmpfiles.read_text() == slots.boot_record(layout, slot, GROUP)
        assert os.readlink(layout.live_link) == "blue.sock"
        flip(layout, slot)

    monkeypatch.setattr(slots, "point_live_at", check)
    switch.converge(plan("two"))
    assert_live(live, "green", "two")


def test_a_reboot_brings_back_the_live_slot(live: Host, switch: Switch) -> None:
    switch.converge(plan("two"))
    live.reboot()
    assert_live(live, "green", "two")
    assert not switch.converge(plan("two")).changed


# --- a slot that does not become ready


@pytest.mark.parametrize(
    ("release", "result"), [("crash", "exit-code"), ("fail", "timeout")]
)
def test_a_crash_at_start(
    live: Host, switch: Switch, release: str, result: str
) -> None:
    with untouched(live), pytest.raises(KeepaliveError) as caught:
        switch.converge(plan(release))
    message = str(caught.value)
    assert "shop@green.service ended while it started" in message
    assert result in message
    assert "live slot is untouched" in message
    assert "journalctl -u shop@green.service" in message
    assert "ModuleNotFoundError: No module named 'shop'" in message
    assert live.now < 1000 + PLAN.start_timeout_s
    assert_live(live, "blue", "one")


@pytest.mark.parametrize(
    ("release", "reason"),
    [("500", "status 500 instead of 200"), ("hang", "no answer in time")],
)
def test_a_probe_never_answered_well(
    live: Host, switch: Switch, release: str, reason: str
) -> None:
    with untouched(live), pytest.raises(KeepaliveError) as caught:
        switch.converge(plan(release))
    message = str(caught.value)
    assert "within 30 s (fastapi_service_start_timeout_s)" in message
    assert "GET /health gave " + reason in message
    assert "fastapi_service_probe_path" in message
    assert "fastapi_service_probe_status" in message
    assert "ModuleNotFoundError" in message
    assert live.now == pytest.approx(1000 + PLAN.start_timeout_s, abs=2)
    assert_live(live, "blue", "one")


def test_a_slot_that_answers_once_and_crashes_is_not_ready(
    live: Host, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_and_die(_path: str, _probe: Probe, _timeout_s: float) -> str:
        live.unit("shop@green.service").restarts = 1
        return ""

    monkeypatch.setattr(slot_switch, "ask_socket", answer_and_die)
    with untouched(live), pytest.raises(KeepaliveError, match="ended while it started"):
        switch.converge(plan("two"))
    assert_live(live, "blue", "one")


def test_earlier_restarts_of_a_slot_are_forgotten(live: Host, switch: Switch) -> None:
    live.unit("shop@green.service").restarts = 7
    switch.converge(plan("two"))
    assert_live(live, "green", "two")


def test_a_good_release_after_a_bad_one(live: Host, switch: Switch) -> None:
    with pytest.raises(KeepaliveError):
        switch.converge(plan("crash"))
    assert switch.converge(plan("two")).slot_to == "green"
    assert_live(live, "green", "two")


def test_a_first_switch_that_fails_leaves_nothing_live(
    host: Host, switch: Switch
) -> None:
    with pytest.raises(KeepaliveError):
        switch.converge(plan("crash"))
    assert slots.live_slot(host.layout) is None
    assert host.running() == host.enabled() == []
    switch.converge(PLAN)
    assert_live(host, "blue", "one")


# --- draining


def test_connections_drain_before_the_old_slot_stops(
    live: Host, switch: Switch
) -> None:
    live.connect("blue", 64)
    live.after(2.0, lambda: live.connect("blue", 3))
    live.after(5.0, lambda: live.connect("blue", 0))
    outcome = switch.converge(plan("two"))
    assert outcome.connections_drained == 64
    assert outcome.connections_cut == 0
    assert outcome.seconds_to_drain == pytest.approx(
        5 + (DRAIN_ZEROS - 1) * DRAIN_INTERVAL_S, abs=DRAIN_INTERVAL_S
    )
    assert_live(live, "green", "two")


def test_one_sample_without_connections_is_not_enough(
    live: Host, switch: Switch
) -> None:
    live.connect("blue", 1)
    live.after(1.0, lambda: live.connect("blue", 0))
    # Begun before the rename, arrived after all others had ended.
    late_s = 1.0 + (DRAIN_ZEROS - 1.5) * DRAIN_INTERVAL_S
    live.after(late_s, lambda: live.connect("blue", 2))
    live.after(3.0, lambda: live.connect("blue", 0))
    outcome = switch.converge(plan("two"))
    assert outcome.connections_drained == 2
    assert outcome.connections_cut == 0
    assert outcome.seconds_to_drain > 3.0


def test_connections_beyond_the_budget_are_cut_and_counted(
    live: Host, switch: Switch
) -> None:
    live.connect("blue", 8)
    live.after(4.0, lambda: live.connect("blue", 5))
    outcome = switch.converge(plan("two", drain_timeout_s=10))
    assert outcome.connections_cut == 5
    assert outcome.connections_drained == 3
    assert outcome.seconds_to_drain == pytest.approx(10, abs=DRAIN_INTERVAL_S)
    assert_live(live, "green", "two")


def test_connections_to_the_new_slot_do_not_hold_the_old_one(
    live: Host, switch: Switch
) -> None:
    live.after(0.1, lambda: live.connect("green", 64))
    outcome = switch.converge(plan("two"))
    assert outcome.seconds_to_drain < 2
    assert outcome.connections_cut == 0


# --- interrupted, and run again


@pytest.mark.parametrize(
    "step",
    [
        "start shop@green.socket",
        "start shop@green.service",
        "enable shop@green.socket",
        "stop shop@blue.socket",
        "disable shop@blue.service",
    ],
)
def test_the_next_run_finishes_an_interrupted_switch(
    live: Host, switch: Switch, step: str
) -> None:
    live.power_loss_at = {step}
    with pytest.raises(PowerLossError):
        switch.converge(plan("two"))
    live.power_loss_at = set()
    assert switch.would(plan("two")).changed
    assert switch.converge(plan("two")).changed
    assert_live(live, "green", "two")
    assert not switch.converge(plan("two")).changed


def lose_power_at_the_rename(
    switch: Switch, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    def fail(_layout: Layout, _slot: str) -> None:
        raise PowerLossError

    with monkeypatch.context() as patch:
        patch.setattr(slots, "point_live_at", fail)
        with pytest.raises(PowerLossError):
            switch.converge(plan(release))


def test_interrupted_right_before_the_rename(
    live: Host, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_power_at_the_rename(switch, monkeypatch, "two")
    assert slots.live_slot(live.layout) == "blue"
    assert switch.converge(plan("two")).slot_to == "green"
    assert_live(live, "green", "two")


def test_a_reboot_right_before_the_rename_brings_a_proven_slot(
    live: Host, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_power_at_the_rename(switch, monkeypatch, "two")
    live.reboot()
    assert slots.live_slot(live.layout) == "green"
    assert switch.converge(plan("two")).actions == ["retire"]
    assert_live(live, "green", "two")


def test_a_reboot_never_finds_the_slot_of_a_bad_release(
    live: Host, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_power_at_the_rename(switch, monkeypatch, "two")
    with pytest.raises(KeepaliveError):
        switch.converge(plan("crash"))
    live.reboot()
    assert_live(live, "blue", "one")


def test_an_unfinished_drain_goes_on_in_the_next_run(
    live: Host, switch: Switch
) -> None:
    live.power_loss_at = {"stop shop@blue.socket"}
    live.connect("blue", 4)
    with pytest.raises(PowerLossError):
        switch.converge(plan("two", drain_timeout_s=3))
    live.power_loss_at = set()
    live.after(2.0, lambda: live.connect("blue", 0))
    outcome = switch.converge(plan("two"))
    assert outcome.actions == ["retire"]
    assert outcome.connections_drained == 4
    assert_live(live, "green", "two")


# --- what a hand or a crash undid


def remove_link(host: Host) -> None:
    host.layout.live_link.unlink()


def remove_spare_link(host: Host) -> None:
    host.layout.spare_link.unlink()


def turn_link(host: Host) -> None:
    host.layout.live_link.unlink()
    host.layout.live_link.symlink_to("green.sock")


def remove_record(host: Host) -> None:
    host.layout.tmpfiles.unlink()


def disable(host: Host) -> None:
    host.unit("shop@blue.socket").enabled = False


def remove_socket(host: Host) -> None:
    host.layout.socket("blue").unlink()


def remove_spare_socket(host: Host) -> None:
    host.layout.spare_socket("blue").unlink()


def empty_run_dir(host: Host) -> None:
    for path in host.layout.run_dir.iterdir():
        path.unlink()


def stop_service(host: Host) -> None:
    host.unit("shop@blue.service").active = "inactive"


def stop_both(host: Host) -> None:
    for name in host.layout.units("blue"):
        host("systemctl stop {0}".format(name).split())
    host.calls.clear()


def start_other(host: Host) -> None:
    slots.write_slot(host.layout, "green", plan("old").files)
    host.unit("shop@green.socket").active = "active"


@pytest.mark.parametrize(
    ("undo", "action"),
    [
        (remove_link, "promote"),
        (remove_spare_link, "promote"),
        (remove_socket, "link"),
        (remove_spare_socket, "link"),
        (turn_link, "promote"),
        (remove_record, "promote"),
        (disable, "promote"),
        (stop_service, "start"),
        (stop_both, "start"),
        (start_other, "retire"),
    ],
)
def test_a_repair(
    live: Host, switch: Switch, undo: Callable[[Host], None], action: str
) -> None:
    undo(live)
    before = live.tree()
    told = switch.would(PLAN)
    assert live.tree() == before
    assert live.calls == []
    outcome = switch.converge(PLAN)
    assert outcome.actions == told.actions == [action]
    assert outcome.changed
    assert (outcome.slot_from, outcome.slot_to) == ("blue", "blue")
    assert_live(live, "blue", "one")
    assert switch.converge(PLAN) == Outcome(slot_from="blue", slot_to="blue")


def remove_both_names(host: Host) -> None:
    remove_socket(host)
    remove_spare_socket(host)


def test_the_other_slot_takes_over_from_one_without_its_socket(
    live: Host, switch: Switch
) -> None:
    remove_both_names(live)
    before = live.tree()
    assert switch.would(PLAN).actions == ["switch"]
    assert live.tree() == before
    outcome = switch.converge(PLAN)
    assert outcome.actions == ["switch"]
    assert (outcome.slot_from, outcome.slot_to) == ("blue", "green")
    assert_live(live, "green", "one")


def test_an_emptied_folder_is_filled_again(live: Host, switch: Switch) -> None:
    empty_run_dir(live)
    outcome = switch.converge(PLAN)
    assert outcome.actions == ["link", "promote"]
    assert_live(live, "blue", "one")


def test_a_slot_whose_file_is_gone_is_replaced(live: Host, switch: Switch) -> None:
    (live.layout.config_dir / "blue/gunicorn.conf.py").unlink()
    assert switch.converge(PLAN).actions == ["switch"]
    assert_live(live, "green", "one")


def test_a_live_slot_that_does_not_come_back_is_an_error(
    live: Host, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_service(live)
    monkeypatch.setattr(
        slot_switch, "ask_socket", lambda *_: "status 503 instead of 200"
    )
    with pytest.raises(KeepaliveError, match="status 503") as error:
        switch.converge(PLAN)
    assert "untouched" not in str(error.value)
    # Stopping what may yet recover would help nobody.
    assert live.unit("shop@blue.service").active == "active"


# --- check mode


@pytest.mark.parametrize("release", ["one", "two"])
def test_check_mode_tells_and_changes_nothing(
    live: Host, switch: Switch, release: str
) -> None:
    before = live.tree()
    told = switch.would(plan(release))
    assert live.calls == []
    assert live.tree() == before
    done = switch.converge(plan(release))
    assert (told.changed, told.slot_from, told.slot_to, told.actions) == (
        done.changed,
        done.slot_from,
        done.slot_to,
        done.actions,
    )


def test_check_mode_before_the_first_switch(host: Host, switch: Switch) -> None:
    told = switch.would(PLAN)
    assert (told.changed, told.slot_from, told.slot_to) == (True, "", "blue")
    assert host.tree() == {}


# --- removal


def test_removal(live: Host, switch: Switch) -> None:
    switch.converge(plan("two"))
    live.connect("green", 2)
    live.after(1.0, lambda: live.connect("green", 0))
    outcome = switch.remove(60, dry_run=False)
    assert outcome.changed
    assert outcome.actions == ["remove"]
    assert outcome.slot_from == "green"
    assert outcome.connections_drained == 2
    assert live.running() == live.enabled() == []
    assert set(live.tree()) == {"run/keepalive-shop.lock"}
    assert live.calls[-1] == ["daemon-reload"]


def test_removal_twice_changes_nothing(live: Host, switch: Switch) -> None:
    switch.remove(60, dry_run=False)
    live.calls.clear()
    before = live.tree()
    assert switch.remove(60, dry_run=False) == Outcome()
    assert live.calls == []
    assert live.tree() == before


def test_removal_in_check_mode(live: Host, switch: Switch) -> None:
    before = live.tree()
    outcome = switch.remove(60, dry_run=True)
    assert outcome.changed
    assert live.calls == []
    assert live.tree() == before


@pytest.mark.parametrize(
    "step",
    ["stop shop@blue.socket", "disable shop@blue.service", "stop shop@green.socket"],
)
def test_the_next_run_finishes_an_interrupted_removal(
    live: Host, switch: Switch, step: str
) -> None:
    switch.converge(plan("two"))
    live.power_loss_at = {step}
    with pytest.raises(PowerLossError):
        switch.remove(60, dry_run=False)
    live.power_loss_at = set()
    assert switch.remove(60, dry_run=False).changed
    assert live.running() == live.enabled() == []
    assert set(live.tree()) == {"run/keepalive-shop.lock"}


def test_removal_stops_what_has_only_its_units_left(live: Host, switch: Switch) -> None:
    shutil.rmtree(live.layout.config_dir)
    assert switch.remove(60, dry_run=False).changed
    assert live.running() == live.enabled() == []
    assert set(live.tree()) == {"run/keepalive-shop.lock"}


def test_removal_leaves_what_somebody_else_put_there(
    live: Host, switch: Switch
) -> None:
    (live.layout.config_dir / "notes").write_text("mine")
    switch.remove(60, dry_run=False)
    assert set(live.tree()) == {"etc/shop/notes", "run/keepalive-shop.lock"}


def test_a_service_can_come_back_after_its_removal(live: Host, switch: Switch) -> None:
    switch.remove(60, dry_run=False)
    switch.converge(plan("two"))
    assert_live(live, "blue", "two")


# --- refusals


def test_a_second_switch_at_once_is_refused(live: Host, switch: Switch) -> None:
    acts: List[Callable[[], Outcome]] = [
        lambda: switch.converge(plan("two")),
        lambda: switch.remove(60, dry_run=False),
    ]
    with untouched(live), live.layout.lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        for act in acts:
            begun = live.now
            with pytest.raises(KeepaliveError, match="another switch of shop"):
                act()
            assert live.now == pytest.approx(begun + LOCK_TIMEOUT_S, abs=1)
    assert live.calls == []
    assert switch.converge(plan("two")).changed


def test_a_switch_waits_for_the_one_before(live: Host, switch: Switch) -> None:
    with live.layout.lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        live.after(5.0, lambda: fcntl.flock(stream, fcntl.LOCK_UN))
        assert switch.converge(plan("two")).changed


@pytest.mark.parametrize("foreign", ["etc/shop/shop.ini", "run/shop/shop.pid"])
def test_a_name_that_is_another_programs_is_refused(
    host: Host, switch: Switch, foreign: str
) -> None:
    path = host.layout.root / foreign
    path.parent.mkdir(parents=True)
    path.write_text("d /run/shop 0755 shop shop\n")
    for act in (switch.would, switch.converge):
        with pytest.raises(KeepaliveError, match="fastapi_service_name"):
            act(PLAN)
    assert switch.remove(60, dry_run=False) == Outcome()
    assert set(host.tree()) == {foreign}
    assert host.calls == []


def test_a_group_that_is_not_there_is_refused_before_anything(
    live: Host, switch: Switch
) -> None:
    with untouched(live), pytest.raises(KeepaliveError, match="no group 'nobodys'"):
        switch.converge(replace(plan("two"), socket_group="nobodys"))


def test_what_is_written_can_be_read_by_the_service(host: Host, switch: Switch) -> None:
    umask = os.umask(0o077)
    try:
        switch.converge(PLAN)
    finally:
        os.umask(umask)
    folder = host.layout.config_dir / "blue"
    modes = {path.stat().st_mode & 0o777 for path in (folder, folder.parent)}
    assert modes == {0o755}


def test_an_empty_folder_of_that_name_is_nobodys(host: Host, switch: Switch) -> None:
    host.layout.config_dir.mkdir(parents=True)
    switch.converge(PLAN)
    assert_live(host, "blue", "one")


def test_results_are_the_documented_ones() -> None:
    result = slot_switch.as_result(Outcome(slot_to="blue"))
    assert result == {
        "changed": False,
        "slot_from": "",
        "slot_to": "blue",
        "actions": [],
        "seconds_to_ready": 0.0,
        "seconds_to_drain": 0.0,
        "seconds_to_stopped": 0.0,
        "connections_drained": 0,
        "connections_cut": 0,
    }


def test_a_slot_whose_unit_is_gone_is_stopped_as_well(
    live: Host, switch: Switch
) -> None:
    live.layout.files("blue")["service_unit"][0].unlink()
    switch.converge(plan("two"))
    assert live.running() == sorted(live.layout.units("green"))
