"""A controller that is killed, at twenty moments of a rollout."""

from __future__ import annotations

import os
import signal
import time

import pytest
from fleet_faults import FLEET
from rolling import Fleet, release
from soak_record import add_case

from conftest import ROOT

WINDOW_S = 30
ZONE = Fleet(
    ["a1", "a2", "a3"],
    "zone_a",
    ROOT / "reports/fleet/killed",
    {
        **FLEET.settings,
        "fastapi_rollout_waves": ["1"],
        "fastapi_rollout_window_s": WINDOW_S,
    },
)
MOMENTS = range(20)
# How far apart, in a rollout that takes a minute and a half.
STEP_S = 4.5


@pytest.mark.parametrize("moment", MOMENTS)
def test_hosts_go_back_and_a_rerun_goes_on(moment: int) -> None:
    old, new = f"kept {moment}", f"killed {moment}"
    run = ZONE.roll(**release(old))
    assert run.status == 0, run.output
    earlier = ZONE.journal
    controller = ZONE.start(**release(new))
    time.sleep(STEP_S * (moment + 1))
    ended_before = controller.poll() is not None
    if not ended_before:
        os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    time.sleep(WINDOW_S + 5)
    confirmed = {
        name
        for each in (ZONE.events() if ZONE.journal != earlier else [])
        if each["event"] == "promoted"
        for name in each["hosts"]
    }
    found, trials = ZONE.versions(), ZONE.on_trial()
    again = ZONE.roll(**release(new))
    facts = {
        "killed_after_s": STEP_S * (moment + 1),
        "ended_before": ended_before,
        "confirmed": sorted(confirmed),
        "versions": found,
        "on_trial": trials,
        "rerun": again.status,
    }
    add_case("fleet.json", f"controller killed: {moment + 1}", facts)
    assert trials == []
    # One that was being confirmed just then may have heard of it, and not been noted.
    undecided = {name for name in found if name not in confirmed and found[name] == new}
    assert len(undecided) <= 1
    assert all(found[name] == new for name in confirmed)
    assert again.status == 0, again.output
    assert ZONE.all_run(new)
