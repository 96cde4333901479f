"""A good release reaches nine hosts behind two balancers, and nobody notices."""

from __future__ import annotations

import pytest
from fleet_faults import FLEET, WAVES
from rolling import DOWN_AND_UP, release
from soak_record import add_case, of_probe

from conftest import LANES, BackgroundProbe, connect, run_playbook

BALANCERS = ["lb1", "lb2"]


@pytest.fixture
def load() -> BackgroundProbe:
    """Return a client on the generator, of both balancers."""
    lanes = [
        {
            **lane,
            "name": f"{lane['name']}, {balancer}",
            "url": lane["url"].replace("127.0.0.1", balancer),
        }
        for balancer in BALANCERS
        for lane in LANES
        if lane["name"] in ("POST kept", "POST new", "GET kept", "GET new")
    ]
    return BackgroundProbe(
        connect("gen1"),
        "gen1",
        lanes,
        service="alpha-balancer",
        at=connect(BALANCERS[0]),
    )


def test_it_is_set_up_and_then_nothing_is_left_to_do() -> None:
    for playbook, hosts in (("site", "services"), ("playbooks/balancer", "balancers")):
        first = run_playbook(f"{playbook}.yml", hosts)
        assert first.status == 0, first.why
        again = run_playbook(f"{playbook}.yml", hosts)
        assert again.status == 0, again.why
        assert {each["changed"] for each in again.report["stats"].values()} == {0}


def test_a_good_release_under_load(load: BackgroundProbe) -> None:
    before = FLEET.roll(**release("good 0"))
    assert before.status == 0, before.why
    with load:
        run = FLEET.roll(**release("good"))
    assert run.status == 0, run.why
    promoted = [each["hosts"] for each in FLEET.events() if each["event"] == "promoted"]
    add_case("fleet.json", "good release", {"waves": promoted, **of_probe(load.result)})
    assert promoted == WAVES
    assert FLEET.all_run("good")
    load.assert_nothing_lost()


def test_a_configuration_alone(load: BackgroundProbe) -> None:
    """A change of the site reloads each host's nginx, whose clients are balancers.

    Before nginx 1.27.4, as on these hosts, one of them may send on a connection that
    is just being closed; none but a POST is lost by it, for it is not sent again.
    """
    with load:
        run = FLEET.roll(**release("good"), fastapi_service_body_limit="2m")
    assert run.status == 0, run.why
    add_case("fleet.json", "configuration alone", of_probe(load.result))
    assert all(name.startswith("POST") for name in load.lost_by_lane), load.result
    assert load.result["lost"] < len(FLEET.hosts), load.failures
    back = FLEET.roll(**release("good"))
    assert back.status == 0, back.why
    again = FLEET.roll(**release("good"))
    assert again.status == 0, again.why
    assert {again.stats(name)["changed"] for name in FLEET.hosts} == {0}


def test_hosts_are_taken_down(load: BackgroundProbe) -> None:
    with load:
        run = run_playbook(
            "playbooks/maintain.yml",
            "all",
            fastapi_balancer_maintain=["a1", "b1"],
            fastapi_balancer_maintain_command=["sh", "-c", DOWN_AND_UP],
        )
    assert run.status == 0, run.why
    add_case("fleet.json", "hosts taken down", of_probe(load.result))
    load.assert_nothing_lost()
