"""Connections are reused, as counted where they are accepted; nobody loses the race."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from conftest import Deploy, Host, Script, Slots

pytestmark = pytest.mark.on_hosts("d13", "n130")
CONNECTIONS, REQUESTS_EACH = 8, 500
REQUESTS = CONNECTIONS * REQUESTS_EACH
ACCEPTED = "/var/lib/counted/accepted"
COUNTED = yaml.safe_load((Path(__file__).parent.parent / "vars.yml").read_text())


@pytest.fixture
def pool_times_workers(host: Host) -> int:
    config = host.check_output("nginx -T 2>/dev/null")
    upstream = config.partition("upstream keepalive_counted {")[2].partition("}")[0]
    pool = re.search(r"\bkeepalive (\d+);", upstream)
    assert pool
    master = host.check_output("cat /run/nginx.pid")
    return int(pool[1]) * len(host.check_output("ps -o pid= --ppid %s", master).split())


def accepted_during_load(host: Host, script: Script) -> int:
    host.check_output("truncate --size 0 %s", ACCEPTED)
    counts = script(
        "load.py",
        host="counted.test",
        connections=CONNECTIONS,
        requests=REQUESTS_EACH,
    )
    assert counts == {"200": REQUESTS}
    return int(host.file(ACCEPTED).size)


def test_connections_to_the_app_are_reused(
    host: Host, script: Script, pool_times_workers: int
) -> None:
    accepted = accepted_during_load(host, script)
    assert 0 < accepted <= pool_times_workers


@pytest.fixture
def keepalive_off(deploy: Deploy) -> Iterator[None]:
    run = deploy(**COUNTED, fastapi_service_upstream_keepalive=False)
    assert run.status == 0, run.why
    yield
    assert deploy(**COUNTED).status == 0


@pytest.mark.usefixtures("keepalive_off")
def test_without_keepalive_every_request_is_a_connection(
    host: Host, script: Script
) -> None:
    assert accepted_during_load(host, script) == REQUESTS


def app_keepalive_s(host: Host, slot: str) -> int:
    config = host.file(f"/etc/counted/{slot}/gunicorn.conf.py").content_string
    found = re.search(r"^keepalive = (\d+)$", config, re.MULTILINE)
    assert found
    return int(found[1])


def test_idle_race_is_never_a_502(host: Host, script: Script, slots: Slots) -> None:
    limit_s = app_keepalive_s(host, slots("counted")["live"])
    for _time in range(2):
        got = script(
            "race.py",
            host="counted.test",
            pause_after_s=limit_s - 0.3,
            resume_after_s=limit_s + 0.7,
        )
        assert got == {"warmed": 200, "answered": 200}


def test_a_worker_of_nginx_that_stood_still_costs_no_502(script: Script) -> None:
    """As on a disk that takes no more of its log; the application's timer runs on."""
    got = script("race.py", host="alpha.test", pause_after_s=0.3, resume_after_s=9)
    assert got == {"warmed": 200, "answered": 200}


def test_idle_race_is_a_502_where_the_app_closes_first(
    host: Host, script: Script, slots: Slots
) -> None:
    """The contrast, which shows that the test above can fail.

    It stays so, for a rollout of another service on the host to pass it by.
    """
    live = slots("counted")["live"]
    config = f"/etc/counted/{live}/gunicorn.conf.py"
    host.check_output("sed -i 's/^keepalive = .*/keepalive = 1/' %s", config)
    # The whole chain turned round: nginx keeps idle connections for longer.
    site = "/etc/nginx/conf.d/counted.conf"
    host.check_output("sed -i 's/keepalive_timeout 1s/keepalive_timeout 60s/' %s", site)
    host.check_output(
        "systemctl restart counted@%s.service; nginx -s reload; sleep 3", live
    )
    got = script("race.py", host="counted.test", pause_after_s=0.7, resume_after_s=2.0)
    assert got == {"warmed": 200, "answered": 502}
