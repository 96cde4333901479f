"""A new release under load, a reboot, and what an interrupted switch left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faults import copy_source

from conftest import BackgroundLoad, Deploy, Host, Script, Slots, restart

# The third has test_faults, which takes as long.
pytestmark = pytest.mark.on_hosts("d12", "d13")


@pytest.fixture
def changed_source(tmp_path: Path) -> str:
    return copy_source(tmp_path / "app")


def nginx_pids(host: Host) -> list[str]:
    return sorted(host.check_output("pgrep nginx").split())


def test_new_release_under_load_loses_nothing(
    host: Host,
    name: str,
    deploy: Deploy,
    slots: Slots,
    under_load: Callable[..., BackgroundLoad],
    changed_source: str,
) -> None:
    before, pids = slots("alpha"), nginx_pids(host)
    with under_load(host="alpha.test", connections=16) as load:
        run = deploy(fastapi_service_source_path=changed_source)
    assert run.status == 0, run.why
    assert set(load.result) == {"200"}, load.result
    assert load.result["200"] > 1000

    switch = run.result(name, "switch | ")
    assert (switch["slot_from"], switch["actions"]) == (before["live"], ["switch"])
    assert switch["slot_to"] != before["live"]
    assert switch["connections_cut"] == 0
    after = slots("alpha")
    assert after["live"] == switch["slot_to"]
    assert after[before["live"]] == "inactive"
    assert (
        f"/run/alpha/{before['live']}.sock"
        not in host.file("/proc/net/unix").content_string
    )
    # The site is what it was, so nginx has no part in this but to reconnect.
    assert nginx_pids(host) == pids


def test_back_to_the_first_release_builds_nothing(name: str, deploy: Deploy) -> None:
    run = deploy()
    assert run.status == 0, run.why
    assert run.result(name, "release | Build")["built"] is False
    assert run.result(name, "switch | ")["actions"] == ["switch"]
    assert deploy().stats(name)["changed"] == 0


def test_what_a_hand_or_a_crash_undid_is_restored(
    host: Host, name: str, deploy: Deploy, slots: Slots, script: Script
) -> None:
    live = slots("alpha")["live"]
    host.check_output(
        "rm /run/alpha/live.sock && systemctl stop alpha@%s.service", live
    )
    run = deploy()
    assert run.status == 0, run.why
    assert set(run.result(name, "switch | ")["actions"]) == {"start", "promote"}
    assert script("get.py", host="alpha.test", path="/health")["status"] == 200
    assert deploy().stats(name)["changed"] == 0


def test_reboot_restores_the_live_slot(
    host: Host, name: str, deploy: Deploy, slots: Slots, script: Script
) -> None:
    before = slots("alpha")
    restart(name)
    assert slots("alpha") == before
    assert script("get.py", host="alpha.test", path="/health")["status"] == 200
    assert deploy().stats(name)["changed"] == 0
