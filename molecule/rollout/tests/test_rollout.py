"""A fleet of three: the main cases of what `make fleet` shows on twelve hosts."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rolling import Fleet, release

from conftest import (
    HOSTS,
    BackgroundProbe,
    connect,
    run_module,
)

# The shortest there may be beside a command of ten seconds.
KILLED: dict[str, Any] = {
    "fastapi_rollout_window_s": 30,
    "fastapi_rollout_gates": ["command"],
    "fastapi_rollout_command": ["sleep", "10"],
    "fastapi_rollout_command_timeout_s": 10,
}
SETTINGS: dict[str, Any] = {
    "fastapi_rollout_soak_s": 3,
    # With the usual minute, the window would be refused.
    "fastapi_rollout_command_timeout_s": 10,
    "fastapi_rollout_window_s": 60,
    "fastapi_rollout_waves": ["2"],
}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(list(HOSTS), "molecule", tmp_path / "reports", SETTINGS)


@pytest.fixture
def good(fleet: Fleet) -> str:
    """Have the whole fleet on one good version; return it."""
    if not fleet.all_run("good 1"):
        run = fleet.roll(**release("good 1"))
        assert run.status == 0, run.output
    return "good 1"


def test_a_good_release_reaches_all_and_loses_nothing(fleet: Fleet, good: str) -> None:
    probes = [BackgroundProbe(connect(name), name) for name in fleet.hosts]
    with ExitStack() as stack:
        for probe in probes:
            stack.enter_context(probe)
        run = fleet.roll(**release("good 2"))
    assert run.status == 0, run.output
    for probe in probes:
        probe.assert_nothing_lost()
    assert fleet.all_run("good 2")
    told = fleet.events()
    waves = next(each["waves"] for each in told if each["event"] == "plan")
    canary, *others = fleet.hosts
    assert waves == [[canary], others]
    promoted = [each["hosts"] for each in told if each["event"] == "promoted"]
    assert promoted == waves
    again = fleet.roll(**release("good 2"))
    assert again.status == 0, again.output
    assert {again.stats(name)["changed"] for name in fleet.hosts} == {0}


def test_the_plan_alone_changes_nothing(fleet: Fleet, good: str) -> None:
    run = fleet.roll("--check", **release("other"))
    assert run.status == 0, run.output
    assert "3 hosts in 2 waves: d12; d13, n130." in run.output
    assert fleet.all_run(good)


def test_who_was_promoted_comes_back_as_well(fleet: Fleet, good: str) -> None:
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


def test_a_second_rollout_is_refused(fleet: Fleet, good: str) -> None:
    claim = {"name": "alpha", "holder": "somebody else"}
    run_module(fleet.hosts[1], "fastapi_claim", **claim)
    try:
        run = fleet.roll(**release("bad"))
    finally:
        run_module(fleet.hosts[1], "fastapi_claim", state="absent", **claim)
    assert run.status != 0
    assert f"out to {fleet.hosts[1]} by somebody else" in run.output
    assert fleet.all_run(good)
    again = fleet.roll(**release(good))
    assert again.status == 0, again.output


def test_a_controller_that_is_killed(fleet: Fleet, good: str) -> None:
    controller = fleet.start(**KILLED, **release("good 3"))
    canary = fleet.hosts[0]
    begun = time.monotonic()
    while not fleet.status(canary)["trial"] or fleet.versions()[canary] != "good 3":
        assert time.monotonic() - begun < 120
        time.sleep(1)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    # What was under way on the host may have begun the window anew.
    time.sleep(KILLED["fastapi_rollout_window_s"] + 5)
    assert fleet.all_run(good)
    assert fleet.on_trial() == []
    run = fleet.roll(**release("good 3"))
    assert run.status == 0, run.output
    assert fleet.all_run("good 3")
    assert [each["event"] for each in fleet.events()].count("begin") == 2
