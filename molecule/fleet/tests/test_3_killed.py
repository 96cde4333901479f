"""A controller that is killed, at twenty moments of a rollout."""

from __future__ import annotations

import os
import signal
import time

import pytest
from fleet_faults import FLEET
from rolling import Fleet, release
from soak_record import add_case

from conftest import ROOT, connect, served_version

WINDOW_S = 40
# What was under way on a host goes on for some seconds, and begins its window anew.
UNDER_WAY_S = 10
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
MOMENTS = 20


@pytest.fixture(scope="module")
def whole_s() -> float:
    """How long a rollout takes that is left alone."""
    ZONE.on_one()
    begun = time.monotonic()
    undisturbed = ZONE.roll(**release("left alone"))
    assert undisturbed.status == 0, undisturbed.why
    return time.monotonic() - begun


@pytest.fixture
def old() -> str:
    return ZONE.on_one()


def seconds_until_back(new: str) -> float:
    """Wait until nothing is on trial; return how long any host served what was."""
    begun, last_s = time.monotonic(), 0.0
    # A worker of the controller's may just be sending what begins a trial.
    time.sleep(3)
    while tried := ZONE.on_trial():
        now_s = time.monotonic() - begun
        assert now_s < 2 * WINDOW_S, tried
        if any(served_version(connect(name)) == new for name in tried):
            last_s = now_s
        time.sleep(0.5)
    return round(last_s, 1)


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_hosts_go_back_and_a_rerun_goes_on(
    whole_s: float, old: str, moment: int
) -> None:
    new = f"killed {moment + 1}"
    after_s = round(whole_s * (moment + 0.5) / MOMENTS, 1)
    earlier = ZONE.journal
    controller = ZONE.start(**release(new))
    time.sleep(after_s)
    ended_before = controller.poll() is not None
    if not ended_before:
        os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    back_after_s = seconds_until_back(new)
    confirmed = {
        name
        for each in (ZONE.events() if ZONE.journal != earlier else [])
        if each["event"] == "promoted"
        for name in each["hosts"]
    }
    found = ZONE.versions()
    again = ZONE.roll(**release(new))
    facts = {
        "rollout_s": round(whole_s, 1),
        "killed_after_s": after_s,
        "ended_before": ended_before,
        "confirmed": sorted(confirmed),
        "versions": found,
        "window_s": WINDOW_S,
        "back_after_s": back_after_s,
        "rerun": again.status,
    }
    add_case("fleet.json", f"controller killed: {moment + 1}", facts)
    assert back_after_s <= WINDOW_S + UNDER_WAY_S + 5
    assert set(found.values()) <= {old, new}
    # One that was being confirmed just then may have heard of it, and not been noted.
    undecided = {name for name in found if name not in confirmed and found[name] == new}
    assert len(undecided) <= 1
    assert all(found[name] == new for name in confirmed)
    assert again.status == 0, again.why
    assert ZONE.all_run(new)
