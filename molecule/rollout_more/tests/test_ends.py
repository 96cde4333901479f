"""What a rollout of three hosts does not do, and a controller that does not live on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from rolling import Fleet, fleet_of_three, release

from conftest import run_module

# The shortest there may be beside a command of ten seconds.
KILLED: dict[str, Any] = {
    "fastapi_rollout_window_s": 30,
    "fastapi_rollout_gates": ["command"],
    "fastapi_rollout_command": ["sleep", "10"],
    "fastapi_rollout_command_timeout_s": 10,
}


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return fleet_of_three(tmp_path / "reports")


def test_the_plan_alone_changes_nothing(fleet: Fleet) -> None:
    good = fleet.on_one()
    run = fleet.roll("--check", **release("other"))
    assert run.status == 0, run.why
    assert "3 hosts in 2 waves: d12; d13, n130." in run.output
    assert fleet.all_run(good)


def test_a_second_rollout_is_refused(fleet: Fleet) -> None:
    good = fleet.on_one()
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
    assert again.status == 0, again.why


def test_a_controller_that_is_killed(fleet: Fleet) -> None:
    good = fleet.on_one()
    new = f"{good}+"
    controller = fleet.start(**KILLED, **release(new))
    canary = fleet.hosts[0]
    begun = time.monotonic()
    while not fleet.status(canary)["trial"] or fleet.versions()[canary] != new:
        assert time.monotonic() - begun < 120
        time.sleep(1)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    # What was under way on the host may have begun the window anew.
    time.sleep(KILLED["fastapi_rollout_window_s"] + 5)
    assert fleet.all_run(good)
    assert fleet.on_trial() == []
    run = fleet.roll(**release(new))
    assert run.status == 0, run.why
    assert fleet.all_run(new)
    assert [each["event"] for each in fleet.events()].count("begin") == 2
