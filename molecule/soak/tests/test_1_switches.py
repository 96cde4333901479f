"""Hundreds of switches under load, beside what is done as usual."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from faults import PROGRAM, Subject
from soak_record import of_probe, quantiles, record, start_anew

from conftest import JSON_HEADERS, LANES, POST, BackgroundProbe, Host, connect

pytestmark = pytest.mark.on_hosts("d13")
SWITCHES = int(os.environ.get("SOAK_SWITCHES", "200"))
REQUESTS = int(os.environ.get("SOAK_REQUESTS", "3000000"))
MOST_S = 3 * 3600
RATES = {
    "POST kept": 350,
    "GET kept": 300,
    "POST new": 80,
    "TLS": 100,
    "WebSocket": 60,
    "events": 4,
}
GET_NEW = {
    "name": "GET new",
    "url": "http://127.0.0.1/health",
    "headers": {"Host": "alpha.test"},
    "keepalive": False,
    "rate_per_s": 80,
}


def soak_lanes() -> list[dict[str, Any]]:
    """Return the lanes of the short tests at rates that make millions."""
    lanes = [{**lane, "rate_per_s": RATES[lane["name"]]} for lane in LANES]
    # An answer may wait for its turn while a release is built.
    return [
        {"connections": 16, "late_after_ms": 2000, **each} for each in (*lanes, GET_NEW)
    ]


def usual_lanes() -> list[dict[str, Any]]:
    headers = {**JSON_HEADERS, "Host": "usual.test"}
    lane = {"url": "http://127.0.0.1/async/items/", **POST, "headers": headers}
    return [
        {"name": "usual: POST kept", **lane, "rate_per_s": 50},
        {"name": "usual: POST new", **lane, "rate_per_s": 20, "keepalive": False},
    ]


@pytest.fixture(scope="module")
def subject(name: str, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(name, connect(name), tmp_path_factory.mktemp("soak"))


def operate(subject: Subject, verb: str) -> dict[str, Any]:
    return dict(json.loads(subject.run("%s %s --json", PROGRAM, verb)))


def release(subject: Subject, number: int) -> dict[str, Any]:
    run = subject.deploy(fastapi_service_source_path=subject.source(f"soak{number}"))
    assert run.status == 0, run.output
    return run.result(subject.name, "switch | ")


def usual(host: Host) -> Iterator[str]:
    """Do what is usually done: reload the workers, restart the service."""
    live = (
        host.run("readlink /run/usual/live.sock").stdout.strip().removesuffix(".sock")
    )
    unit = f"usual@{live}.service"
    for what in cycle(
        (f"kill --signal=HUP --kill-whom=main {unit}", f"restart {unit}")
    ):
        host.check_output("systemctl " + what)
        yield what.split()[0]


def switch(subject: Subject, number: int) -> dict[str, Any]:
    kind = ("recycle", "release", "rollback")[number % 3]
    begun = time.monotonic()
    done = release(subject, number) if kind == "release" else operate(subject, kind)
    assert done["actions"] == ["switch"], done
    return {
        "kind": kind,
        "took_s": round(time.monotonic() - begun, 1),
        "seconds_to_ready": done["seconds_to_ready"],
        "seconds_to_stopped": done["seconds_to_stopped"],
        "connections_cut": done["connections_cut"],
    }


def test_switches_lose_nothing(name: str, host: Host, subject: Subject) -> None:
    start_anew()
    probe = BackgroundProbe(host, name, soak_lanes(), MOST_S)
    contrast = BackgroundProbe(host, name, usual_lanes(), MOST_S)
    rate_per_s = sum(lane["rate_per_s"] for lane in probe.lanes)
    events: list[dict[str, Any]] = []
    begun, as_usual = time.monotonic(), usual(host)
    with probe, contrast:
        while (
            len(events) < SWITCHES
            or (time.monotonic() - begun) * rate_per_s < 1.02 * REQUESTS
        ):
            assert probe.running
            at_s = round(time.monotonic() - begun, 1)
            events.append({"at_s": at_s, **switch(subject, len(events))})
            next(as_usual)
    stopped = [each["seconds_to_stopped"] for each in events]
    record(
        "switches",
        name,
        {
            "switches": len(events),
            "seconds_to_stopped": quantiles(stopped),
            "seconds_to_ready": quantiles([e["seconds_to_ready"] for e in events]),
            "events": events,
            **of_probe(probe.result),
        },
    )
    record("as usual", name, {"events": len(events), **of_probe(contrast.result)})
    probe.assert_nothing_lost()
    assert probe.result["requests"] >= REQUESTS
    assert len(events) >= SWITCHES
    assert contrast.result["lost"] > 0


def test_afterwards_nothing_is_left_to_mend(subject: Subject) -> None:
    # The last event may have left another release than the inventory's.
    assert subject.deploy().status == 0
    assert subject.converge() == []
