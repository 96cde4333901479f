"""A recycle by systemd's timer, and clients that stay through a switch."""

from __future__ import annotations

import json
import time

import pytest
from faults import PROGRAM, SERVICE
from soak_record import of_probe, record

from conftest import BackgroundHold, BackgroundProbe, Deploy, Host, slot_facts

pytestmark = pytest.mark.on_hosts("d12")
LIMIT_S = 150


def test_recycle_above_a_memory_limit(name: str, host: Host, deploy: Deploy) -> None:
    assert deploy().status == 0
    before = slot_facts(host, SERVICE)["live"]
    limit = {"fastapi_service_recycle_memory_mb": 1}
    with BackgroundProbe(host, name) as probe:
        run = deploy(**limit, fastapi_service_recycle_min_age_s=5)
        assert run.status == 0, run.why
        give_up = time.monotonic() + LIMIT_S
        while slot_facts(host, SERVICE)["live"] == before:
            assert time.monotonic() < give_up, "the timer did not recycle it"
            time.sleep(1)
        assert deploy().status == 0
    record("memory recycle", name, of_probe(probe.result))
    probe.assert_nothing_lost()
    assert deploy().stats(name)["changed"] == 0


def test_clients_that_stay_are_closed_by_the_budget(
    name: str, host: Host, deploy: Deploy
) -> None:
    assert deploy().status == 0
    with BackgroundHold(host) as held:
        recycled = json.loads(host.check_output("%s recycle --json", PROGRAM))
    found = {**held.found, "connections_cut": recycled["connections_cut"]}
    record("held through a switch", name, found)
    # The budget is 15 s; a stop gives streams some more.
    assert found["websocket_held_s"] >= 15
    assert found["events_held_s"] >= 15
    assert found["websocket_close_code"] == 1012
    # These two and no more: a request that ends within the budget is waited for.
    assert found["connections_cut"] == 2
    assert found["long_request_events"] == 10
