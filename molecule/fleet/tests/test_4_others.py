"""Two controllers, hosts that are gone, clocks that are wrong, and a slow release."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import copy_source
from fleet_faults import (
    FLEET,
    PLACES,
    WAVES,
    another_version,
    has_come_to,
    only_on,
    until,
)
from rolling import release
from soak_record import add_case

from conftest import connect, is_reached, without_ssh

GOOD = "good"
SHIFTED = """
import time
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + {0}
time.time_ns = lambda: real_ns() + {0} * 10**9
"""
PYTHON = '#!/bin/sh\nexec env PYTHONPATH=/opt/shifted /usr/bin/python3 "$@"\n'
# In proportion to what a request costs, for a fixed time is another share elsewhere.
# A fifteenth: the looks at the clock cost the rest of the tenth.
SLOWER = """
import time

from keepalive_demo.main import app as demo


async def app(scope, receive, send):
    begun_ns = time.thread_time_ns()
    await demo(scope, receive, send)
    if scope["type"] == "http":
        ended_ns = time.thread_time_ns()
        until_ns = ended_ns + (ended_ns - begun_ns) // 15
        while time.thread_time_ns() < until_ns:
            pass
"""
REQUEST = {
    "name": "async items",
    "path": "/async/items/",
    "method": "POST",
    "body": json.dumps({"name": "a", "price": 1.5}),
    "headers": {"Content-Type": "application/json"},
}


@pytest.fixture(autouse=True)
def good() -> None:
    run = FLEET.roll(**release(GOOD))
    assert run.status == 0, run.why


@pytest.mark.parametrize("place", PLACES)
def test_a_host_that_is_gone_from_the_start(place: str) -> None:
    name = WAVES[PLACES[place]][0]
    host = connect(name)
    without_ssh(host, 40)
    run = FLEET.roll(**another_version([]))
    add_case("fleet.json", f"gone from the start: {place}", {"status": run.status})
    assert run.status != 0
    assert f"No host was touched. Unreachable: {name}" in run.output
    while not is_reached(host):
        time.sleep(1)
    assert FLEET.all_run(GOOD)


@pytest.mark.parametrize("place", ["canary", "middle wave"])
def test_a_second_controller_is_refused(place: str, tmp_path: Path) -> None:
    earlier, wave = FLEET.journal, PLACES[place] - 1
    event = "promoted" if PLACES[place] else "plan"
    # Two looks at nine hosts at once take longer than the usual window.
    patient = {"fastapi_rollout_window_s": 300}
    with FLEET.start(**release("first"), **patient) as first:
        try:
            until(lambda: has_come_to(event, wave, earlier), event)
            second = FLEET.roll(
                **release("second"),
                **patient,
                fastapi_rollout_reports_dir=str(tmp_path),
            )
            status = first.wait(timeout=1200)
        finally:
            if first.poll() is None:
                os.killpg(first.pid, signal.SIGKILL)
    facts = {"first": status, "second": second.status}
    add_case("fleet.json", f"two controllers: {place}", facts)
    assert second.status != 0
    assert "is being rolled out to" in second.output
    assert status == 0
    assert FLEET.all_run("first")


@pytest.fixture(params=[3600, -3600], ids=["ahead", "behind"])
def wrong_clocks(request: pytest.FixtureRequest) -> Iterator[str]:
    """Have the modules on some hosts see another time of day."""
    hosts = [wave[0] for wave in WAVES]
    for name in hosts:
        connect(name).check_output(
            "mkdir -p /opt/shifted && printf %%s %s >/opt/shifted/sitecustomize.py && "
            "printf %%s %s >/opt/shifted/python && chmod +x /opt/shifted/python",
            SHIFTED.format(request.param),
            PYTHON,
        )
    yield only_on(hosts, "/opt/shifted/python", "/usr/bin/python3")
    for name in hosts:
        connect(name).check_output("rm -r /opt/shifted")


def test_clocks_decide_nothing(
    wrong_clocks: str, request: pytest.FixtureRequest
) -> None:
    clocks = {"ansible_python_interpreter": wrong_clocks}
    well = FLEET.roll(**release("in time"), **clocks)
    assert well.status == 0, well.why
    assert FLEET.all_run("in time")
    ill = FLEET.roll(
        **release("bad"),
        **clocks,
        fastapi_rollout_gates=["command"],
        fastapi_rollout_command=["sh", "-c", "test $ROLLOUT_WAVE != 3"],
        fastapi_rollout_command_timeout_s=5,
    )
    facts = {"good": well.status, "bad": ill.status}
    add_case("fleet.json", f"clocks: {request.node.name}", facts)
    assert ill.status != 0
    assert "STOPPED in wave 3 of 5" in ill.output
    assert FLEET.all_run("in time")


def test_a_release_that_is_a_tenth_slower(tmp_path: Path) -> None:
    source = tmp_path / "slower"
    copy_source(source)
    (source / "slower.py").write_text(SLOWER)
    run = FLEET.roll(
        **release("slower"),
        fastapi_service_source_path=str(source),
        fastapi_service_app="slower:app",
        fastapi_rollout_gates=["health", "benchmark"],
        fastapi_rollout_window_s=600,
        keepalive_benchmark_requests=[REQUEST],
    )
    told = FLEET.events()
    said = [each for each in told if each["event"] == "gate"]
    add_case("fleet.json", "a tenth slower", {"status": run.status, "gates": said})
    assert run.status != 0
    assert [each["verdict"] for each in said if each["gate"] == "benchmark"] == ["fail"]
    assert {e["host"] for e in told if e["event"] == "deployed"} == set(WAVES[0])
    assert FLEET.all_run(GOOD)
