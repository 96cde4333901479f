"""Every fault under load: what it costs, and that nothing is left of it."""

from __future__ import annotations

from typing import Any

import pytest
from faults import DOWN, FAULTS, SERVICE, Fault, Subject
from soak_record import of_probe, record, seconds_with_loss

from conftest import BackgroundProbe, Host, connect, restart, slot_facts

pytestmark = pytest.mark.on_hosts("n130")


@pytest.fixture(scope="module")
def subject(name: str, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    subject = Subject(name, connect(name), tmp_path_factory.mktemp("faults"))
    subject.converge()
    return subject


def told(fault: Fault, probe: BackgroundProbe, mended: list[str]) -> dict[str, Any]:
    facts = of_probe(probe.result)
    del facts["timeline"]
    return {
        "may_lose": fault.may_lose,
        "seconds_with_loss": seconds_with_loss(probe.result),
        "mended_by": mended,
        **facts,
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault(name: str, host: Host, subject: Subject, fault: Fault) -> None:
    with BackgroundProbe(host, name) as probe:
        fault.inject(subject)
        subject.wait_until_it_serves()
        mended = subject.converge()
    record(f"fault: {fault.name}", name, told(fault, probe, mended))
    if not fault.may_lose:
        probe.assert_nothing_lost()
    if fault.may_lose != DOWN:
        # A connection has one request in hand at most.
        connections = sum(lane.get("connections", 4) for lane in probe.lanes)
        assert probe.result["lost"] <= connections, probe.result["failures"]
    states = slot_facts(host, SERVICE)
    assert states[states["live"]] == "active"


@pytest.mark.parametrize("verb", ["recycle", "rollback"])
def test_killed_at_every_step(
    name: str, host: Host, subject: Subject, verb: str
) -> None:
    subject.converge()
    other = {"fastapi_service_environment": {"APP_VERSION": "2"}}
    assert subject.deploy(**other).status == 0
    steps = subject.step_by_step(verb)
    for number, step in enumerate(steps, 1):
        if verb == "rollback":
            assert subject.deploy(**other).status == 0
        with BackgroundProbe(host, name) as probe:
            subject.step_by_step(verb, kill_at=number)
            assert subject.serves()
            mended = subject.converge()
        fault = Fault(f"killed before step {number} of {verb}: {step}", lambda _: None)
        record(f"fault: {fault.name}", name, told(fault, probe, mended))
        probe.assert_nothing_lost()


def test_reboot(name: str, host: Host, subject: Subject) -> None:
    before = slot_facts(host, SERVICE)
    restart(name)
    assert slot_facts(host, SERVICE) == before
    assert subject.serves()
    record("fault: reboot", name, {"mended_by": subject.converge()})
