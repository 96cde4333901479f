"""Hundreds of switches under load, beside what is done as usual."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import pytest
from faults import PROGRAM, Subject
from soak_record import of_probe, quantiles, record, recorded

from conftest import LANES, BackgroundProbe, Host, connect

pytestmark = pytest.mark.on_hosts("d13")
SWITCHES = int(os.environ.get("SOAK_SWITCHES", "200"))
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "3000000"))
# The faults come after it.
LIMIT_S = int(os.environ.get("SOAK_SWITCHES_LIMIT_S", "6000"))
# As much as two cores bear beside a build: what falls behind would count as lost.
RATES = {
    "POST kept": 170,
    "GET kept": 400,
    "POST new": 25,
    "GET new": 25,
    "TLS": 55,
    "WebSocket": 140,
    "events": 4,
}
# A release takes four times as long as the others.
KINDS = ("recycle", "release", "recycle", "rollback")
# So many events in a row that fail say that something is broken.
MOST_FAILED = 5


def soak_lanes() -> list[dict[str, Any]]:
    """Return the lanes of the short tests at rates that make millions."""
    # An answer may wait for its turn while a release is built.
    patient = {"connections": 8, "late_after_ms": 2000, "timeout_s": 120}
    return [{**patient, **lane, "rate_per_s": RATES[lane["name"]]} for lane in LANES]


def usual_lanes() -> list[dict[str, Any]]:
    """Return some of them, for the service that is treated as usual."""
    rates = {"POST kept": 15, "POST new": 5, "GET kept": 10, "WebSocket": 10}
    return [
        {
            **lane,
            "name": f"usual: {lane['name']}",
            "headers": {**lane["headers"], "Host": "usual.test"},
            "rate_per_s": rates[lane["name"]],
            "timeout_s": 120,
        }
        for lane in LANES
        if lane["name"] in rates
    ]


@pytest.fixture(scope="module")
def subject(name: str, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(name, connect(name), tmp_path_factory.mktemp("soak"))


def operate(subject: Subject, verb: str) -> dict[str, Any]:
    return dict(json.loads(subject.run("%s %s --json", PROGRAM, verb)))


def release(subject: Subject, number: int) -> dict[str, Any]:
    run = subject.deploy(fastapi_service_source_path=subject.source(f"soak{number}"))
    assert run.status == 0, run.why
    return run.result(subject.name, "switch | ")


def switch(subject: Subject, number: int) -> dict[str, Any]:
    kind = KINDS[number % len(KINDS)]
    begun = time.monotonic()
    done = release(subject, number) if kind == "release" else operate(subject, kind)
    assert done["actions"] in (["switch"], ["switch", "site"]), done
    return {
        "kind": kind,
        "took_s": round(time.monotonic() - begun, 1),
        "seconds_to_ready": done["seconds_to_ready"],
        "seconds_to_stopped": done["seconds_to_stopped"],
        "connections_cut": done["connections_cut"],
    }


def as_usual(host: Host) -> Iterator[Callable[[], str]]:
    """Yield what is usually done: reload the workers, restart the service."""
    live = host.check_output("readlink /run/usual/live.sock").removesuffix(".sock")
    unit = f"usual@{live}.service"
    for what in cycle(
        (f"kill --signal=HUP --kill-whom=main {unit}", f"restart {unit}")
    ):
        yield partial(host.check_output, "systemctl " + what)


def tried(act: Callable[[], Any]) -> dict[str, Any]:
    """Do it, and return when and what came of it: one failure must not end hours."""
    at_s = time.time()
    try:
        found = act()
    except Exception as error:  # noqa: BLE001
        return {"at_s": at_s, "failed": repr(error)[:500]}
    return {"at_s": at_s, **(found if isinstance(found, dict) else {})}


def broken(events: list[dict[str, Any]]) -> bool:
    last = events[-MOST_FAILED:]
    return len(last) == MOST_FAILED and all("failed" in each for each in last)


def enough(events: list[dict[str, Any]], sent: float) -> bool:
    return len(events) >= SWITCHES and sent >= 1.02 * REQUESTS


def told(events: list[dict[str, Any]], probe: BackgroundProbe) -> dict[str, Any]:
    """Return the events by the probe's clock, and how long they took by kind."""
    facts = of_probe(probe.result)
    good = [each for each in events if "failed" not in each]
    return {
        "switches": len(good),
        "failed": len(events) - len(good),
        "connections_cut": sum(each["connections_cut"] for each in good),
        **{
            key: quantiles([each[key] for each in good])
            for key in ("seconds_to_ready", "seconds_to_stopped")
        },
        "took_s": {
            kind: quantiles([each["took_s"] for each in good if each["kind"] == kind])
            for kind in {each["kind"] for each in good}
        },
        "events": [
            {**each, "at_s": round(each["at_s"] - facts["begun_at_s"], 1)}
            for each in events
        ],
        **facts,
    }


def test_switches_lose_nothing(name: str, host: Host, subject: Subject) -> None:
    probe = BackgroundProbe(host, name, soak_lanes(), LIMIT_S + 900)
    contrast = BackgroundProbe(host, name, usual_lanes(), LIMIT_S + 900, "usual")
    rate_per_s = sum(lane["rate_per_s"] for lane in probe.lanes)
    events: list[dict[str, Any]] = []
    usual: list[dict[str, Any]] = []
    todo = as_usual(host)
    try:
        with probe, contrast:
            begun = time.monotonic()
            while not enough(events, (time.monotonic() - begun) * rate_per_s):
                if broken(events) or time.monotonic() - begun > LIMIT_S:
                    break
                assert probe.running
                assert contrast.running
                number = len(events)
                events.append(tried(lambda: switch(subject, number)))  # noqa: B023
                if number % 2:
                    usual.append(tried(next(todo)))
    finally:
        if "lanes" in probe.result:
            record("switches", name, told(events, probe))
        if "lanes" in contrast.result:
            facts = of_probe(contrast.result)
            record("as usual", name, {"events": len(usual), **facts})
    probe.assert_nothing_lost()
    assert not [each for each in events if "failed" in each]
    assert len(events) >= SWITCHES
    assert probe.result["requests"] >= REQUESTS


def test_the_usual_way_loses_some(name: str) -> None:
    """Of few events, none may have cost any."""
    facts = recorded("as usual")
    assert facts["lost"] > 0 or facts["events"] < 50


def test_afterwards_nothing_is_left_to_mend(subject: Subject) -> None:
    # The last event may have left another release than the inventory's.
    assert subject.deploy().status == 0
    assert subject.converge() == []
