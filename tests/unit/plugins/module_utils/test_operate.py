# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is recorded of a service's deployments, and the verbs that need it."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import (
    history,
    operate,
    slots,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
    NotReadyError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.operate import (
    Goal,
    recycle,
    roll_back,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.slot_switch import (
    Switch,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.host import (
    Host,
    PowerLossError,
    plan,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.service import (  # noqa: E501
    Service,
)

# --- what is recorded


def test_what_serves_is_good(service: Service) -> None:
    assert service.verdicts == ["one good"]
    service.deploy("two")
    assert service.verdicts == ["two good", "one good"]


def test_the_same_again_is_no_news(service: Service) -> None:
    before = service.host.tree()
    service.deploy("one")
    assert not history.confirm(service.host.layout)
    assert service.host.tree() == before


def test_what_was_not_seen_to_serve_is_unproven(service: Service) -> None:
    service.switch.converge(plan("two"))
    assert service.verdicts == ["two unproven", "one good"]
    assert history.confirm(service.host.layout, dry_run=True)
    assert service.verdicts == ["two unproven", "one good"]


def test_a_release_that_failed_is_marked(service: Service) -> None:
    with pytest.raises(NotReadyError):
        service.switch.converge(plan("crash"))
    assert service.verdicts == ["crash bad", "one good"]
    reason = history.entries(service.host.layout)[0].reason
    assert "shop@green.service ended while it started" in reason
    assert "\n" not in reason


def test_a_release_that_failed_may_be_mended(service: Service) -> None:
    with pytest.raises(NotReadyError):
        service.switch.converge(replace(plan("slow"), start_timeout_s=1))
    assert service.verdicts == ["slow bad", "one good"]
    service.host.now = 1005
    service.switch.converge(plan("slow"))
    history.confirm(service.host.layout)
    assert service.verdicts == ["slow good", "one good"]


def test_another_site_is_another_deployment(service: Service) -> None:
    service.deploy("one", site="other site")
    assert service.verdicts == ["one good", "one good"]


def test_only_so_much_is_kept(service: Service) -> None:
    for number in range(history.KEPT + 5):
        service.deploy("two", site="site {0}".format(number))
    known = history.entries(service.host.layout)
    assert len(known) == history.KEPT
    assert known[0].deployment.site == "site {0}".format(history.KEPT + 4)


def test_what_runs_and_the_way_back_are_kept(service: Service) -> None:
    service.deploy("two")
    for number in range(history.KEPT + 5):
        config = "workers = {0}\n".format(number)
        files = replace(plan("crash").files, gunicorn_config=config)
        with pytest.raises(NotReadyError):
            service.switch.converge(replace(plan("one"), files=files))
    assert len(service.verdicts) == history.KEPT
    assert service.verdicts[-2:] == ["two good", "one good"]


def test_another_plan_for_the_same_files_is_no_news(service: Service) -> None:
    known = history.entries(service.host.layout)[0].deployment.plan
    service.switch.converge(replace(known, drain_timeout_s=13))
    assert not history.confirm(service.host.layout)
    assert service.verdicts == ["one good"]
    now = history.entries(service.host.layout)[0].deployment.plan
    assert now.drain_timeout_s == 13


def test_a_deployment_that_comes_back_is_the_latest(service: Service) -> None:
    for release in ("two", "one", "three"):
        service.deploy(release)
    assert service.verdicts == ["three good", "one good", "two good"]
    roll_back(service.operated, Goal(), dry_run=False)
    assert service.live == "one"


def test_a_folder_of_that_name_is_not_its_own(host: Host, switch: Switch) -> None:
    folder = host.layout.history_dir
    folder.mkdir(parents=True)
    (folder / "notes").write_text("mine")
    with pytest.raises(KeepaliveError, match="choose another"):
        switch.converge(plan("one"))
    switch.remove(60, dry_run=False)
    assert (folder / "notes").exists()


def test_nobody_else_reads_it(service: Service) -> None:
    folder = service.host.layout.history_dir
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())


def test_what_is_half_written_or_foreign_is_left_out(service: Service) -> None:
    folder = service.host.layout.history_dir
    (folder / "000009.json").write_text("{")
    (folder / "000010.json").write_text("{}")
    (folder / "notes.json").write_text("{}")
    assert service.verdicts == ["one good"]
    service.deploy("two")
    assert service.verdicts == ["two good", "one good"]


def test_it_goes_with_the_service(service: Service) -> None:
    service.switch.remove(60, dry_run=False)
    assert not service.host.layout.config_dir.exists()


def test_nothing_is_live(host: Host) -> None:
    with pytest.raises(KeepaliveError, match="no live slot"):
        history.confirm(host.layout)
    assert history.confirm(host.layout, dry_run=True)


# --- recycle


def test_a_recycle(service: Service) -> None:
    assert slots.live_slot(service.host.layout) == "blue"
    _change, outcome = recycle(service.operated, dry_run=False)
    assert outcome.actions == ["switch"]
    assert (outcome.slot_from, outcome.slot_to) == ("blue", "green")
    assert service.live == "one"
    assert service.verdicts == ["one good"]


def test_a_recycle_in_check_mode(service: Service) -> None:
    before = service.host.tree()
    _change, outcome = recycle(service.operated, dry_run=True)
    assert outcome.actions == ["switch"]
    assert service.host.tree() == before


def test_a_recycle_needs_a_record(live: Host, switch: Switch) -> None:
    history.forget_all(live.layout)
    with pytest.raises(KeepaliveError, match=r"deploy it with site\.yml first"):
        recycle(Service(live, switch).operated, dry_run=False)


def test_a_recycle_that_fails_says_nothing_of_what_serves(service: Service) -> None:
    service.host.now = 1005
    service.switch.converge(replace(plan("slow"), start_timeout_s=1))
    history.confirm(service.host.layout)
    service.host.now = 0
    with pytest.raises(NotReadyError):
        recycle(service.operated, dry_run=False)
    assert service.live == "slow"
    assert service.verdicts == ["slow good", "one good"]


# --- rollback


def test_a_rollback_goes_to_the_last_good_one(service: Service) -> None:
    service.deploy("two")
    with pytest.raises(NotReadyError):
        service.switch.converge(plan("crash"))
    service.deploy("three")
    change, outcome = roll_back(service.operated, Goal(), dry_run=False)
    assert (change.after.plan.release, outcome.actions) == ("two", ["switch"])
    assert service.live == "two"
    assert service.verdicts == ["two good", "three bad", "crash bad", "one good"]
    reason = history.entries(service.host.layout)[1].reason
    assert reason == "left by a rollback to two"


def test_a_second_rollback_goes_further(service: Service) -> None:
    service.deploy("two")
    service.deploy("three")
    roll_back(service.operated, Goal(), dry_run=False)
    roll_back(service.operated, Goal(), dry_run=False)
    assert service.live == "one"
    with pytest.raises(KeepaliveError, match=r"no good release to go back to.*\(bad\)"):
        roll_back(service.operated, Goal(), dry_run=False)
    assert service.live == "one"


def test_a_rollback_by_name(service: Service) -> None:
    service.deploy("two")
    service.deploy("three")
    roll_back(service.operated, Goal("one"), dry_run=False)
    assert service.live == "one"
    # Left as bad, and yet what was asked for by its name.
    roll_back(service.operated, Goal("three"), dry_run=False)
    assert service.live == "three"


def test_a_release_that_is_gone_is_no_way_back(service: Service) -> None:
    service.deploy("two")
    service.releases = ["two"]
    with pytest.raises(KeepaliveError, match="Removed since: one"):
        roll_back(service.operated, Goal("one"), dry_run=False)


def test_a_rollback_in_check_mode(service: Service) -> None:
    service.deploy("two", site="other")
    before = service.host.tree()
    change, outcome = roll_back(service.operated, Goal(), dry_run=True)
    assert (change.after.plan.release, outcome.actions) == ("one", ["switch", "site"])
    assert service.host.tree() == before


def test_a_rollback_of_the_site_alone(service: Service) -> None:
    service.deploy("one", site="other")
    change, outcome = roll_back(service.operated, Goal(), dry_run=False)
    assert (change.after.plan.release, outcome.actions) == ("one", ["site"])
    assert service.steps == ["site site with blue live"]


def test_nginx_learns_of_a_shorter_keepalive_first(service: Service) -> None:
    service.deploy("two", site="other", keepalive_s=60)
    roll_back(service.operated, Goal(), dry_run=False)
    assert service.steps == ["site site with green live"]
    assert slots.live_slot(service.host.layout) == "blue"


def test_nginx_learns_of_a_longer_keepalive_afterwards(service: Service) -> None:
    service.deploy("two", site="other", keepalive_s=10)
    roll_back(service.operated, Goal(), dry_run=False)
    assert service.steps == ["site site with blue live"]


@pytest.mark.parametrize("keepalive_s", [10, 60])
def test_a_rollback_that_fails_leaves_what_serves(
    service: Service, keepalive_s: int
) -> None:
    service.deploy("two", site="other", keepalive_s=keepalive_s)
    folder = service.host.layout.history_dir
    first = folder / "000002.json"
    first.write_text(first.read_text().replace("one\\n", "hang\\n"))
    service.releases.append("hang")
    with pytest.raises(NotReadyError):
        roll_back(service.operated, Goal(), dry_run=False)
    assert service.live == "two"
    assert service.host.layout.site.read_text() == "other"
    assert service.verdicts == ["two good", "hang bad"]


def test_what_is_left_drains_by_its_own_budget(service: Service) -> None:
    layout = service.host.layout
    service.switch.converge(replace(plan("two"), drain_timeout_s=100))
    history.confirm(layout)
    service.host.connect("green", 1)
    service.host.after(90, lambda: service.host.connect("green", 0))
    _change, outcome = roll_back(service.operated, Goal(), dry_run=False)
    assert outcome.connections_cut == 0


def test_the_power_goes_before_the_rename(service: Service) -> None:
    service.deploy("two")
    service.host.power_loss_at = {"enable shop@blue.socket"}
    with pytest.raises(PowerLossError):
        roll_back(service.operated, Goal(), dry_run=False)
    assert os.readlink(service.host.layout.live_link) == "green.sock"
    service.host.power_loss_at = set()
    roll_back(service.operated, Goal(), dry_run=False)
    assert service.live == "one"


@pytest.mark.parametrize("site", ["site", "other"])
@pytest.mark.parametrize("keepalive_s", [10, 60])
@pytest.mark.parametrize(
    "event", ["enable shop@blue.socket", "stop shop@green.socket", "put"]
)
def test_an_interrupted_rollback_is_finished_by_the_next(
    service: Service,
    event: str,
    site: str,
    keepalive_s: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Who is killed undoes nothing.
    monkeypatch.setattr(operate, "_stay", lambda _host, _now: None)
    service.deploy("three")
    service.deploy("two")
    service.deploy("one", site=site, keepalive_s=keepalive_s)
    service.deploy("two")
    service.deploy("three", site=site, keepalive_s=keepalive_s)
    service.host.power_loss_at = {event}
    service.interrupted = event == "put"
    if event != "put" or site != "site":
        with pytest.raises(PowerLossError):
            roll_back(service.operated, Goal(), dry_run=False)
        service.host.power_loss_at = set()
        service.interrupted = False
        roll_back(service.operated, Goal(), dry_run=False)
        assert service.live == "two"
        assert service.host.layout.site.read_text() == "site"
        assert service.verdicts[:2] == ["two good", "three bad"]
        assert history.unfinished_rollback(service.host.layout) is None


def test_a_site_that_nginx_refuses_is_seen_before_anything(service: Service) -> None:
    service.deploy("two", site="other")
    service.refused = "site"
    before = service.host.tree()
    for dry_run in (True, False):
        with pytest.raises(KeepaliveError, match="nginx would not take it"):
            roll_back(service.operated, Goal(), dry_run=dry_run)
    service.host.layout.lock.unlink()
    assert {**before, "run/keepalive-shop.lock": ""} == {
        **service.host.tree(),
        "run/keepalive-shop.lock": "",
    }


def test_what_no_longer_starts_is_chosen_once(service: Service) -> None:
    service.deploy("two", site="a")
    service.deploy("two", site="b")
    service.deploy("three")
    folder = service.host.layout.history_dir
    for path in folder.glob("*.json"):
        path.write_text(path.read_text().replace('"two\\n"', '"hang\\n"'))
    service.releases.append("hang")
    with pytest.raises(NotReadyError):
        roll_back(service.operated, Goal(), dry_run=False)
    roll_back(service.operated, Goal(), dry_run=False)
    assert service.live == "one"


def test_a_second_operator_is_refused(service: Service) -> None:
    service.deploy("two")
    other = Switch(service.host.layout, service.switch._systemd)
    with other.exclusive(), pytest.raises(KeepaliveError, match="another switch"):
        roll_back(service.operated, Goal(), dry_run=False)
    assert service.verdicts == ["two good", "one good"]


def test_a_rollback_leaves_what_it_is_told_to(service: Service) -> None:
    service.deploy("two")
    known = history.in_force(service.host.layout)
    assert known
    key = known.deployment.key
    change, outcome = roll_back(service.operated, Goal(unless=key), dry_run=False)
    assert (outcome.changed, service.live) == (False, "two")
    assert change.before == change.after
    service.deploy("three")
    roll_back(service.operated, Goal(unless=key), dry_run=False)
    assert service.live == "two"


def test_a_rollback_to_a_deployment(service: Service) -> None:
    service.deploy("two", site="a")
    known = history.in_force(service.host.layout)
    assert known
    goal = Goal(deployment=known.deployment.key)
    service.deploy("two", site="b")
    service.deploy("three")
    roll_back(service.operated, goal, dry_run=False)
    assert service.live == "two"
    assert service.host.layout.site.read_text() == "a"
    _change, outcome = roll_back(service.operated, goal, dry_run=False)
    assert not outcome.changed


def test_a_deployment_that_is_not_known(service: Service) -> None:
    with pytest.raises(KeepaliveError, match="no good release to go back to"):
        roll_back(service.operated, Goal(deployment="0" * 16), dry_run=False)
