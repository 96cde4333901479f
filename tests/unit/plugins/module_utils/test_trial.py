# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployment on trial: what is kept, what comes back, and what is refused."""

from __future__ import annotations

import os
from typing import List, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import (
    history,
    slots,
    trial,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    BusyError,
    KeepaliveError,
    NotReadyError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Change,
    Goal,
    recycle,
    roll_back,
    running,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Host as Operated,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Outcome,
    Switch,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.trial_verbs import (
    begin_trial,
    confirm,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.trial_verbs import (
    revert as revert_if_any,
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


def revert(host: Operated, *, dry_run: bool) -> Tuple[Change, Outcome]:
    """Go back from the trial that is under way."""
    done = revert_if_any(host, dry_run=dry_run)
    assert done
    return done


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
    with pytest.raises(KeepaliveError, match="no trial is under way"):
        confirm(service.operated, dry_run=False, only="unchanged")


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


@pytest.fixture
def tried_third(service: Service) -> Service:
    """Return a service with ``two`` on trial; ``one`` before, ``three`` before that."""
    service.deploy("three")
    service.deploy("one")
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    service.switch_to("two")
    return service


def test_a_rollback_further_than_the_trial_lasts(tried_third: Service) -> None:
    _change, outcome = roll_back(tried_third.operated, Goal("three"), dry_run=True)
    assert outcome.actions == ["switch"]
    roll_back(tried_third.operated, Goal("three"), dry_run=False)
    live = slots.live_slot(tried_third.host.layout) or ""
    assert live_release(tried_third) == "three"
    assert running_slots(tried_third) == [live]
    assert boots_to(tried_third, live)
    assert ended(tried_third)


def test_a_rollback_further_that_fails_leaves_the_trial(tried_third: Service) -> None:
    folder = tried_third.host.layout.history_dir
    for path in folder.glob("0*.json"):
        path.write_text(path.read_text().replace('"three\\n"', '"hang\\n"'))
    tried_third.releases.append("hang")
    with pytest.raises(NotReadyError):
        roll_back(tried_third.operated, Goal("hang"), dry_run=False)
    assert live_release(tried_third) == "two"
    assert timer_runs(tried_third)
    revert(tried_third.operated, dry_run=False)
    assert live_release(tried_third) == "one"
    assert boots_to(tried_third, slots.live_slot(tried_third.host.layout) or "")


def test_a_rollback_from_a_trial_of_nothing_lasts(service: Service) -> None:
    service.deploy("two")
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    roll_back(service.operated, Goal(), dry_run=False)
    live = slots.live_slot(service.host.layout) or ""
    assert live_release(service) == "one"
    assert running_slots(service) == [live]
    assert boots_to(service, live)
    assert ended(service)


def test_a_rollback_that_has_nowhere_to_go_ends_an_idle_trial(service: Service) -> None:
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    goal = Goal(deployment=running(service.host.layout).deployment.key)
    _change, outcome = roll_back(service.operated, goal, dry_run=False)
    assert not outcome.changed
    assert ended(service)


def test_a_rollback_to_a_deployment_that_nobody_has_proven(service: Service) -> None:
    service.switch_to("two")
    goal = Goal(deployment=running(service.host.layout).deployment.key)
    put_program(service.host)
    begin_trial(service.operated, 60, dry_run=False)
    service.switch_to("three")
    confirm(service.operated, dry_run=False)
    roll_back(service.operated, goal, dry_run=False)
    assert live_release(service) == "two"


def test_a_rollback_to_what_is_on_trial_keeps_it(tried: Service) -> None:
    live = running(tried.host.layout).deployment.key
    _change, outcome = roll_back(tried.operated, Goal(deployment=live), dry_run=False)
    assert live_release(tried) == "two"
    assert ended(tried)
    assert outcome.actions == ["retire"]
    assert boots_to(tried, "green")
    assert running_slots(tried) == ["green"]


def test_reverted_in_check_mode(tried: Service) -> None:
    before = tried.host.tree()
    _change, outcome = revert(tried.operated, dry_run=True)
    assert outcome.actions == ["switch", "site"]
    assert tried.host.tree() == before


def test_a_slot_that_was_restarted_long_ago_is_warm(tried: Service) -> None:
    tried.host.unit("shop@blue.service").restarts = 1
    revert(tried.operated, dry_run=False)
    assert live_release(tried) == "one"
    assert not any(call[0] in ("start", "kill") for call in tried.host.calls)


def test_a_way_back_that_cannot_start_leaves_what_serves(tried: Service) -> None:
    files = tried.host.layout.files("blue")["release"][0]
    files.write_text("hang\\n")
    folder = tried.host.layout.history_dir
    for path in folder.glob("0*.json"):
        path.write_text(path.read_text().replace('"one\\n"', '"hang\\n"'))
    tried.releases.append("hang")
    known = trial.under_way(tried.host.layout)
    assert known
    back = history.entries(tried.host.layout)[-1].deployment.key
    text = tried.host.layout.trial.read_text().replace(known.back_to, back)
    tried.host.layout.trial.write_text(text)
    with pytest.raises(NotReadyError):
        revert(tried.operated, dry_run=False)
    assert live_release(tried) == "two"
    assert boots_to(tried, "green")


def test_it_does_not_go_back_before_its_time(tried: Service) -> None:
    tried.host.now += 59
    assert revert_if_any(tried.operated, dry_run=False, only_due=True) is None
    tried.host.now += 1
    assert revert_if_any(tried.operated, dry_run=False, only_due=True)
    assert live_release(tried) == "one"


def test_one_that_was_killed_while_it_drained_is_finished(tried: Service) -> None:
    tried.host.power_loss_at = {"stop shop@green.socket"}
    with pytest.raises(PowerLossError):
        revert(tried.operated, dry_run=False)
    tried.host.power_loss_at = set()
    revert_if_any(tried.operated, dry_run=False)
    assert running_slots(tried) == ["blue"]
    assert ended(tried)


def test_what_does_not_run_is_not_confirmed(tried: Service) -> None:
    tried.host.unit("shop@green.service").active = "failed"
    with pytest.raises(KeepaliveError, match="does not run"):
        confirm(tried.operated, dry_run=False, only="trial")
    assert timer_runs(tried)


def test_after_a_reboot_it_is_too_late(tried: Service) -> None:
    tried.host.reboot()
    with pytest.raises(KeepaliveError, match="gone back by itself"):
        confirm(tried.operated, dry_run=False, only="trial")


def test_a_trial_of_before_a_reboot_ends_before_another(tried: Service) -> None:
    tried.host.reboot()
    assert begin_trial(tried.operated, 60, dry_run=False)
    assert tried.host.layout.site.read_text() == "site"
    assert "two bad" in tried.verdicts
    assert timer_runs(tried)


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
    revert_if_any(tried.operated, dry_run=False)
    assert live_release(tried) == ("two" if over else "one")
    tried.switch.converge(running(tried.host.layout).deployment.plan)
    assert running_slots(tried) == [slots.live_slot(tried.host.layout)]
    assert boots_to(tried, slots.live_slot(tried.host.layout) or "")


def test_a_switch_that_was_to_be_tried_is_not_made_for_good(tried: Service) -> None:
    revert(tried.operated, dry_run=False)
    with pytest.raises(KeepaliveError, match="ended before the switch"):
        tried.switch.converge(plan("two"), on_trial=True)
    assert live_release(tried) == "one"


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


def test_without_a_trial_there_is_nothing_to_revert(host: Host, switch: Switch) -> None:
    assert revert_if_any(Service(host, switch).operated, dry_run=False) is None


def test_a_record_that_cannot_be_read_is_none(tried: Service) -> None:
    tried.host.layout.trial.write_text("{")
    assert trial.under_way(tried.host.layout) is None


def test_it_goes_with_the_service(tried: Service) -> None:
    tried.switch.remove(60, dry_run=False)
    assert ended(tried)
    assert not tried.host.layout.config_dir.exists()
    assert not os.path.lexists(tried.host.layout.live_link)
