"""A switch killed before each of its steps, under load. Last, for it takes long."""

from __future__ import annotations

import os

import pytest
from faults import Subject
from soak_record import left_s, of_probe, record, seconds_with_loss

from conftest import BackgroundProbe, Host, connect

pytestmark = pytest.mark.on_hosts("n130")
# How many of the steps, of all alike; 0 for every one.
STEPS = int(os.environ.get("SOAK_STEPS", "0"))
OTHER = {"fastapi_service_environment": {"APP_VERSION": "2"}}
LONGEST_S = 120


@pytest.fixture(scope="module")
def subject(name: str, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(name, connect(name), tmp_path_factory.mktemp("steps"))


def chosen(verb: str, steps: list[str]) -> list[int]:
    """Return which steps to kill before, from 1.

    A rollback is a recycle but for its record, and nginx's site.
    """
    numbers = [
        number
        for number, step in enumerate(steps, 1)
        if verb == "recycle" or "/history/" in step or "nginx" in step
    ]
    return numbers[:: max(len(numbers) // STEPS, 1)] if STEPS else numbers


@pytest.mark.parametrize("verb", ["recycle", "rollback"])
def test_killed_at_every_step(
    name: str,
    host: Host,
    subject: Subject,
    verb: str,
    subtests: pytest.Subtests,
) -> None:
    subject.converge()
    assert subject.deploy(**OTHER, fastapi_service_body_limit="2m").status == 0
    steps = subject.step_by_step(verb)
    left_out = 0
    for number in chosen(verb, steps):
        if left_s() < LONGEST_S:
            left_out += 1
            continue
        with subtests.test(f"{number}: {steps[number - 1]}"):
            kill_at(number, steps[number - 1], name, host, subject, verb)
    record(f"steps of {verb}", name, {"steps": steps, "left_out": left_out})
    assert not left_out, f"the soak's time was over before {left_out} steps"


def kill_at(
    number: int, step: str, name: str, host: Host, subject: Subject, verb: str
) -> None:
    if verb == "rollback":
        run = subject.deploy(**OTHER, fastapi_service_body_limit="2m")
        assert run.status == 0, run.why
    probe = BackgroundProbe(host, name)
    facts: dict[str, object] = {"may_lose": "", "mended_by": []}
    try:
        with probe:
            subject.step_by_step(verb, kill_at=number)
            assert subject.serves()
            facts["mended_by"] = subject.converge()
        probe.assert_nothing_lost()
    except BaseException as error:
        facts["failed"] = repr(error)[:500]
        raise
    finally:
        if "lanes" in probe.result:
            facts["seconds_with_loss"] = seconds_with_loss(probe.result)
            facts.update(of_probe(probe.result))
            del facts["timeline"]
        record(f"fault: killed before step {number} of {verb}: {step}", name, facts)
