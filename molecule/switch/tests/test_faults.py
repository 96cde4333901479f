"""Some of the soak's faults, each under load."""

from __future__ import annotations

import json

import pytest
from faults import (
    HANDS,
    KILLS,
    PROGRAM,
    SERVICE,
    Subject,
    fails_after_the_flip,
)

from conftest import (
    BackgroundHold,
    BackgroundProbe,
    Deploy,
    Host,
    connect,
    slot_facts,
)

pytestmark = pytest.mark.on_hosts("n130")
BY_NAME = {each.name: each for each in (*KILLS, *HANDS)}


@pytest.fixture
def subject(name: str, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(name, connect(name), tmp_path_factory.mktemp("faults"))


def test_a_killed_worker_costs_what_it_had_in_hand(
    subject: Subject, probing: BackgroundProbe
) -> None:
    assert subject.deploy().status == 0
    with probing:
        BY_NAME["app worker killed"].inject(subject)
        assert subject.serves()
    lost = probing.lost_by_lane
    assert "GET kept" not in lost, lost
    assert sum(lost.values()) <= sum(
        lane.get("connections", 4) for lane in probing.lanes
    )


def test_a_killed_nginx_comes_back(subject: Subject) -> None:
    BY_NAME["nginx's master killed"].inject(subject)
    subject.wait_until_it_serves()


def test_nothing_is_lost_by_what_can_be_mended(
    subject: Subject, probing: BackgroundProbe
) -> None:
    with probing:
        for fault in ("/run/alpha emptied", "live link turned"):
            BY_NAME[fault].inject(subject)
            assert subject.deploy().status == 0
        fails_after_the_flip(subject)
        steps = subject.step_by_step("recycle")
        # While it writes the slot, starts it, flips the links, and stops the other.
        for number in range(2, len(steps) + 1, len(steps) // 4):
            subject.step_by_step("recycle", kill_at=number)
            assert subject.serves()
            assert subject.step_by_step("recycle")
    probing.assert_nothing_lost()
    assert subject.converge() == []


def test_recycle_above_a_memory_limit(
    name: str, host: Host, deploy: Deploy, probing: BackgroundProbe
) -> None:
    before = slot_facts(host, SERVICE)["live"]
    run = deploy(
        fastapi_service_recycle_memory_mb=1, fastapi_service_recycle_min_age_s=0
    )
    assert run.status == 0, run.why
    assert host.service("alpha-memory.timer").is_running
    assert host.service("alpha-memory.timer").is_enabled
    host.check_output("systemctl stop alpha-memory.timer")
    with probing:
        # What the timer starts once a minute.
        host.check_output("systemctl start alpha-memory.service")
    probing.assert_nothing_lost()
    assert slot_facts(host, SERVICE)["live"] != before
    status = host.check_output("%s status", PROGRAM)
    assert status.startswith("service alpha: release ")
    assert deploy().status == 0
    assert not host.service("alpha-memory.timer").is_running


def test_clients_that_stay_are_closed_by_the_budget(host: Host) -> None:
    with BackgroundHold(host) as held:
        recycled = json.loads(host.check_output("%s recycle --json", PROGRAM))
    assert recycled["connections_cut"] == 2
    assert held.found["long_request_events"] == 10
    # fastapi_service_drain_timeout_s is 15 there.
    assert held.found["websocket_held_s"] >= 15
    assert held.found["events_held_s"] >= 15
    assert held.found["websocket_close_code"] == 1012
