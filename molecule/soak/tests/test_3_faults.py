"""Every fault under load: what it costs, and that nothing is left of it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from faults import (
    DOWN,
    FAULTS,
    NOT_REPEATED,
    SERVICE,
    UNTIL_MENDED,
    Fault,
    Subject,
)
from soak_record import left_s, of_probe, record, seconds_with_loss

from conftest import BackgroundProbe, Host, connect, restart, slot_facts

pytestmark = pytest.mark.on_hosts("n130")
# How long nginx may be down.
DOWN_S = 10


@pytest.fixture(scope="module")
def subject(name: str, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(name, connect(name), tmp_path_factory.mktemp("faults"))


def assert_no_more_lost(fault: Fault, probe: BackgroundProbe) -> None:
    """Hold that only those requests are lost that had to be."""
    lost = probe.lost_by_lane
    if not fault.may_lose:
        probe.assert_nothing_lost()
    elif fault.may_lose == UNTIL_MENDED:
        assert lost
    elif fault.may_lose == DOWN:
        rate_per_s = sum(lane.get("rate_per_s", 20) for lane in probe.lanes)
        assert sum(lost.values()) <= rate_per_s * DOWN_S, lost
    else:
        # A connection has one request in hand at most.
        assert set(lost) <= NOT_REPEATED, probe.failures
        most = {lane["name"]: lane.get("connections", 4) for lane in probe.lanes}
        assert all(number <= most[name] for name, number in lost.items()), lost


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault(name: str, host: Host, subject: Subject, fault: Fault) -> None:
    if left_s() < 0:
        pytest.skip("the soak's time is over")
    facts: dict[str, Any] = {"may_lose": fault.may_lose, "mended_by": []}
    probe = BackgroundProbe(host, name)
    try:
        with probe:
            fault.inject(subject)
            injected = time.monotonic()
            if fault.may_lose == UNTIL_MENDED:
                facts["mended_by"] = subject.mend()
            subject.wait_until_it_serves()
            facts["serves_again_s"] = round(time.monotonic() - injected, 1)
            facts["mended_by"] += subject.converge()
        facts["slots"] = slot_facts(host, SERVICE)
        facts["seconds_with_loss"] = seconds_with_loss(probe.result)
        assert_no_more_lost(fault, probe)
        assert facts["slots"][facts["slots"]["live"]] == "active"
    except BaseException as error:
        facts["failed"] = repr(error)[:500]
        raise
    finally:
        if "lanes" in probe.result:
            facts.update(of_probe(probe.result))
            del facts["timeline"]
        record(f"fault: {fault.name}", name, facts)


def test_reboot(name: str, host: Host, subject: Subject) -> None:
    before = slot_facts(host, SERVICE)
    begun = time.monotonic()
    restart(name)
    subject.wait_until_it_serves()
    facts = {"serves_again_s": round(time.monotonic() - begun, 1)}
    assert slot_facts(host, SERVICE) == before
    mended = subject.converge()
    record("reboot", name, {**facts, "mended_by": mended})
    assert mended == []
