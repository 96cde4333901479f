# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment on trial: what is kept, what comes back, and what is refused."""

from __future__ import annotations

import os
from typing import List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import slots, trial
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    BusyError,
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Goal,
    begin_trial,
    confirm,
    recycle,
    revert,
    roll_back,
    running,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.host import (
    GROUP,
    Host,
    PowerLossError,
    plan,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.service import (  # noqa: E501
    Service,
)

BOTH_SLOTS = ["blue", "green"]


def put_program(host: Host) -> None:
    unit = host.layout.own_unit(slots.REVERT)
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("[Service]\n")


@pytest.fixture
def tried(service: Service) -> Service:
    """Return a service with release ``two`` and another site, on trial."""
    put_program(service.host)
    assert begin_trial(service.operated, 60, dry_run=False)
    service.switch_to("two", site="other")
    service.host.calls.clear()
    return service


def live_release(service: Service) -> str:
    live = slots.live_slot(service.host.layout)
    files = slots.read_slot(service.host.layout, live) if live else None
    assert files
    return files.release.strip()


def running_slots(service: Service) -> List[str]:
    layout, up = service.host.layout, service.host.running()
    return [slot for slot in slots.SLOTS if set(layout.units(slot)) <= set(up)]


def boots_to(service: Service, slot: str) -> bool:
    host = service.host
    record = slots.boot_record(host.layout, slot, GROUP)
    enabled = {name for name in host.enabled() if "@" in name}
    return host.layout.tmpfiles.read_text() == record and enabled == set(
        host.layout.units(slot)
    )


def timer_runs(service: Service) -> bool:
    name = service.host.layout.revert_timer.name
    return service.host.unit(name).active == "active"


def ended(service: Service) -> bool:
    layout = service.host.layout
    gone = not layout.trial.exists() and not layout.revert_timer.exists()
    return gone and not timer_runs(service)


# --- while it lasts


def test_the_old_slot_stays_warm_and_is_what_a_boot_finds(tried: Service) -> None:
    assert live_release(tried) == "two"
    assert running_slots(tried) == BOTH_SLOTS
    assert boots_to(tried, "blue")
    assert timer_runs(tried)
    assert "OnActiveSec=60\n" in tried.host.layout.revert_timer.read_text()
    assert tried.verdicts == ["two unproven", "one good"]


def test_the_same_again_leaves_it_as_it_is(tried: Service) -> None:
    before = tried.host.tree()
    tried.switch_to("two", site="other")
    assert tried.host.tree() == before
    assert tried.host.calls == []


def test_how_long_it_may_still_be_confirmed(tried: Service) -> None:
    now = trial.under_way(tried.host.layout)
    assert now
    begun = now.ends_s - 60
    assert now.seconds_left(begun + 12.5) == 47.5
    assert now.seconds_left(begun + 90) == 0
    # After a reboot the clock has begun anew.
    assert now.seconds_left(3) == 60


def test_begun_again_it_lasts_longer_and_goes_back_as_far(tried: Service) -> None:
    before = trial.under_way(tried.host.layout)
    tried.host.now += 50
    begin_trial(tried.operated, 90, dry_run=False)
    now = trial.under_way(tried.host.layout)
    assert before
    assert now
    assert now.back_to == before.back_to
    assert now.ends_s == tried.host.now + 90
    assert live_release(tried) == "two"


def test_a_third_release_is_refused(tried: Service) -> None:
    before = tried.host.tree()
    with pytest.raises(BusyError, match=r"release two is on trial.*confirm\.yml"):
        tried.switch.converge(plan("three"))
    with pytest.raises(BusyError, match="on trial"):
        tried.switch.would(plan("three"))
    assert tried.host.tree() == before
    assert running_slots(tried) == BOTH_SLOTS


def test_a_recycle_is_refused(tried: Service) -> None:
    with pytest.raises(BusyError, match="on trial"):
        recycle(tried.operated, dry_run=False)
    assert running_slots(tried) == BOTH_SLOTS


def test_deploying_what_was_before_is_a_rename(tried: Service) -> None:
    tried.switch_to("one")
    assert live_release(tried) == "one"
    assert running_slots(tried) == ["blue"]
    assert not any(call[0] == "start" for call in tried.host.calls)


# --- confirmed


def test_confirmed_it_stays(tried: Service) -> None:
    outcome = confirm(tried.operated, dry_run=False, only="trial")
    assert outcome.changed
    assert outcome.actions == ["confirm", "retire"]
    assert live_release(tried) == "two"
    assert running_slots(tried) == ["green"]
    assert boots_to(tried, "green")
    assert ended(tried)
    assert tried.verdicts == ["two good", "one good"]


def test_confirmed_the_old_slot_drains(tried: Service) -> None:
    tried.host.connect("blue", 3)
    tried.host.after(2, lambda: tried.host.connect("blue", 1))
    assert confirm(tried.operated, dry_run=False).connections_cut == 1


def test_confirmed_in_check_mode(tried: Service) -> None:
    before = tried.host.tree()
    assert confirm(tried.operated, dry_run=True).changed
    assert tried.host.tree() == before


def test_what_changed_nothing_ends_with_the_run(service: Service) -> None:
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    service.switch_to("one")
    outcome = confirm(service.operated, dry_run=False, only="unchanged")
    assert not outcome.changed
    assert ended(service)


def test_what_changed_is_not_confirmed_by_the_run(tried: Service) -> None:
    assert not confirm(tried.operated, dry_run=False, only="unchanged").changed
    assert timer_runs(tried)
    assert running_slots(tried) == BOTH_SLOTS


def test_too_late_is_said(tried: Service) -> None:
    revert(tried.operated, dry_run=False)
    with pytest.raises(KeepaliveError, match="gone back by itself"):
        confirm(tried.operated, dry_run=False, only="trial")


# --- not confirmed


def test_it_goes_back_by_one_rename(tried: Service) -> None:
    change, outcome = revert(tried.operated, dry_run=False)
    assert outcome.actions == ["switch", "site"]
    assert change.after.plan.release == live_release(tried) == "one"
    assert not any(call[0] == "start" for call in tried.host.calls)
    assert outcome.seconds_to_ready < 0.1
    assert running_slots(tried) == ["blue"]
    assert boots_to(tried, "blue")
    assert ended(tried)
    assert tried.host.layout.site.read_text() == "site"
    assert tried.verdicts == ["one good", "two bad"]


def test_a_rollback_ends_it_as_well(tried: Service) -> None:
    roll_back(tried.operated, Goal(), dry_run=False)
    assert live_release(tried) == "one"
    assert ended(tried)


def test_another_release_by_name_is_refused(service: Service) -> None:
    service.deploy("three")
    service.deploy("one")
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    service.switch_to("two")
    with pytest.raises(BusyError, match="on trial"):
        roll_back(service.operated, Goal("three"), dry_run=False)
    assert live_release(service) == "two"
    assert timer_runs(service)


def test_reverted_in_check_mode(tried: Service) -> None:
    before = tried.host.tree()
    _change, outcome = revert(tried.operated, dry_run=True)
    assert outcome.actions == ["switch", "site"]
    assert tried.host.tree() == before


def test_a_slot_that_has_died_is_started_again(tried: Service) -> None:
    tried.host.unit("shop@blue.service").active = "failed"
    revert(tried.operated, dry_run=False)
    assert live_release(tried) == "one"
    assert running_slots(tried) == ["blue"]


def test_a_site_on_trial_goes_back_without_a_switch(service: Service) -> None:
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    service.switch_to("one", site="other")
    _change, outcome = revert(service.operated, dry_run=False)
    assert outcome.actions == ["site"]
    assert service.host.layout.site.read_text() == "site"
    assert ended(service)


def test_a_site_changed_by_hand_comes_back_as_it_was(service: Service) -> None:
    service.put("by hand")
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    service.switch_to("two", site="other")
    revert(service.operated, dry_run=False)
    assert service.host.layout.site.read_text() == "by hand"


def test_a_reboot_comes_back_to_what_was(tried: Service) -> None:
    tried.host.reboot()
    assert live_release(tried) == "one"
    _change, outcome = revert(tried.operated, dry_run=False)
    assert outcome.actions == ["site"]
    assert tried.host.layout.site.read_text() == "site"
    assert ended(tried)
    assert "two bad" in tried.verdicts


def test_a_reboot_with_the_same_site(service: Service) -> None:
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    service.switch_to("two")
    service.host.reboot()
    _change, outcome = revert(service.operated, dry_run=False)
    assert not outcome.changed
    assert ended(service)
    assert service.verdicts == ["two bad", "one good"]


@pytest.mark.parametrize(
    "event",
    ["enable shop@green.socket", "stop shop-revert.timer", "stop shop@blue.socket"],
)
def test_a_confirmation_that_is_interrupted(tried: Service, event: str) -> None:
    tried.host.power_loss_at = {event}
    with pytest.raises(PowerLossError):
        confirm(tried.operated, dry_run=False)
    tried.host.power_loss_at = set()
    over = trial.under_way(tried.host.layout) is None
    # The timer, if it still runs, finds a trial or does nothing.
    revert(tried.operated, dry_run=False)
    assert live_release(tried) == ("two" if over else "one")
    tried.switch.converge(running(tried.host.layout).deployment.plan)
    assert running_slots(tried) == [slots.live_slot(tried.host.layout)]
    assert boots_to(tried, slots.live_slot(tried.host.layout) or "")


# --- at its begin


def test_it_begins_with_the_timer(service: Service) -> None:
    put_program(service.host)
    service.host.power_loss_at = {"restart shop-revert.timer"}
    with pytest.raises(PowerLossError):
        begin_trial(service.operated, 60, dry_run=False)
    assert trial.under_way(service.host.layout) is None


def test_before_the_first_deployment_there_is_none(service: Service) -> None:
    service.switch.remove(60, dry_run=False)
    assert not begin_trial(service.operated, 60, dry_run=False)


def test_check_mode_begins_nothing(service: Service) -> None:
    put_program(service.host)
    before = service.host.tree()
    assert begin_trial(service.operated, 60, dry_run=True)
    assert service.host.tree() == before


def test_a_host_that_could_not_go_back_is_refused(service: Service) -> None:
    with pytest.raises(KeepaliveError, match="fastapi_service_upkeep first"):
        begin_trial(service.operated, 60, dry_run=False)


@pytest.mark.parametrize("window_s", [4, 86_401])
def test_a_window_out_of_bounds_is_refused(service: Service, window_s: int) -> None:
    with pytest.raises(KeepaliveError, match="must be 5 to 86400"):
        begin_trial(service.operated, window_s, dry_run=False)


def test_without_a_trial_there_is_nothing_to_revert(service: Service) -> None:
    _change, outcome = revert(service.operated, dry_run=False)
    assert not outcome.changed


def test_a_record_that_cannot_be_read_is_none(tried: Service) -> None:
    tried.host.layout.trial.write_text("{")
    assert trial.under_way(tried.host.layout) is None


def test_it_goes_with_the_service(tried: Service) -> None:
    tried.switch.remove(60, dry_run=False)
    assert ended(tried)
    assert not tried.host.layout.config_dir.exists()
    assert not os.path.lexists(tried.host.layout.live_link)
