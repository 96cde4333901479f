"""A fleet of three: the main cases of what `make fleet` shows on twelve hosts."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from rolling import Fleet, fleet_of_three, release

from conftest import BackgroundProbe, connect


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return fleet_of_three(tmp_path / "reports")


def test_a_good_release_reaches_all_and_loses_nothing(fleet: Fleet) -> None:
    good = fleet.on_one()
    new = f"{good}+"
    probes = [BackgroundProbe(connect(name), name) for name in fleet.hosts]
    with ExitStack() as stack:
        for probe in probes:
            stack.enter_context(probe)
        run = fleet.roll(**release(new))
    assert run.status == 0, run.why
    for probe in probes:
        probe.assert_nothing_lost()
    assert fleet.all_run(new)
    told = fleet.events()
    waves = next(each["waves"] for each in told if each["event"] == "plan")
    canary, *others = fleet.hosts
    assert waves == [[canary], others]
    promoted = [each["hosts"] for each in told if each["event"] == "promoted"]
    assert promoted == waves
    again = fleet.roll(**release(new))
    assert again.status == 0, again.why
    assert {again.stats(name)["changed"] for name in fleet.hosts} == {0}


def test_who_was_promoted_comes_back_as_well(fleet: Fleet) -> None:
    good = fleet.on_one()
    hosts = [connect(name) for name in fleet.hosts]
    nginx_conf = [host.file("/etc/nginx/nginx.conf").content for host in hosts]
    run = fleet.roll(
        nginx_proxy_gzip_level=2,
        fastapi_rollout_gates=["command"],
        fastapi_rollout_command=["sh", "-c", "test $ROLLOUT_WAVE = 1 || exit 2"],
        **release("bad"),
    )
    assert run.status != 0
    assert "STOPPED in wave 2 of 2" in run.output
    assert "gate command: exit status 2" in run.output
    assert fleet.all_run(good)
    assert fleet.on_trial() == []
    now = [host.file("/etc/nginx/nginx.conf").content for host in hosts]
    assert now == nginx_conf
