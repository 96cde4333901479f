"""wrk's traps, each a real server: a correct figure, or valid is false and says why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Host, run_module

pytestmark = pytest.mark.on_hosts("d12")
TRAPS = Path(__file__).parent.parent / "files/traps.py"
VARS = yaml.safe_load((TRAPS.parent.parent / "vars.yml").read_text())
SMALL = {"connections": 4, "duration_s": 1, "timeout_s": 1, "warmup_max_s": 0}


@pytest.fixture(scope="module")
def traps(host: Host) -> Iterator[None]:
    host.check_output("printf %%s %s > /run/traps.py", TRAPS.read_text())
    host.check_output(
        "systemd-run --quiet --collect --unit=traps python3 /run/traps.py 300"
    )
    for _attempt in range(50):
        if host.run("ss -ltn | grep -q :9110").rc == 0:
            break
        time.sleep(0.1)
    yield
    host.run("systemctl stop traps")


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9101/", "did not answer one request within 1 s"),
        ("http://127.0.0.1:9102/", "did not answer one request within 1 s"),
        ("http://127.0.0.1:9103/", "connections broke or were closed"),
        ("http://127.0.0.1:9104/", "did not answer one request: "),
        ("http://127.0.0.1:9105/", "status 500 instead of 200; no load was sent"),
        ("http://127.0.0.1:9106/", "status 307 instead of 200; no load was sent"),
        ("http://127.0.0.1:9107/", "answers were not all like those before the load"),
        ("http://127.0.0.1:9108/", "Connection refused"),
        ("http://127.0.0.1:9110/", "waited for an answer that did not come"),
        ("https://127.0.0.1:9100/", "did not answer one request"),
    ],
)
def test_a_trap(name: str, url: str, said: str) -> None:
    got = run_module(name, "http_benchmark", url=url, validate_certs=False, **SMALL)
    assert got["valid"] is False
    assert said in "; ".join(got["invalid_reasons"])


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize("port", [9100, 9109])
def test_no_trap(name: str, port: int) -> None:
    url = f"http://127.0.0.1:{port}/"
    got = run_module(name, "http_benchmark", url=url, **SMALL)
    assert (got["valid"], got["invalid_reasons"]) == (True, [])
    assert got["requests_per_s"] > 100


@pytest.mark.usefixtures("traps")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"wrk": "no-such-wrk"}, "the role keepalive.fastapi.load_generator installs"),
        ({"connections": 0}, "wrk needs at least one connection a thread"),
        ({"url": "https://127.0.0.1:9100/"}, "set validate_certs to false"),
        ({"app_unit": "none.service"}, "none.service does not run on this host"),
        ({"app_socket": "/run/x.sock"}, "it must be unix:/path or host:port"),
    ],
)
def test_a_wrong_option(name: str, wrong: dict[str, Any], said: str) -> None:
    options = {"url": "http://127.0.0.1:9100/", **SMALL, **wrong}
    got = run_module(name, "http_benchmark", **options)
    reasons = [got.get("msg", ""), *got.get("invalid_reasons", [])]
    assert said in "; ".join(reasons)
    assert not got.get("valid")


@pytest.mark.usefixtures("traps")
def test_a_wrk_that_is_killed(host: Host, name: str) -> None:
    options = {**SMALL, "url": "http://127.0.0.1:9100/", "duration_s": 20}
    # Not by its name alone: the module also asks wrk for its version.
    measuring = f"^[^ ]*wrk .*--duration {options['duration_s']}s"
    killer = (
        f"for i in $(seq 300); do pkill -KILL -f '{measuring}' && exit; sleep 0.1; done"
    )
    host.check_output("systemd-run --quiet --collect sh -c %s", killer)
    got = run_module(name, "http_benchmark", **options)
    assert got["valid"] is False
    assert "wrk ended with signal 9" in got["invalid_reasons"][0]


SABOTAGES: dict[str, dict[str, Any]] = {
    "a header of its own in the location": {
        "settings": {"location": {"proxy_set_header": "X-Mine 1"}}
    },
    "a pool of zero": {"upstream_pool": 0},
    "straight to the socket": {
        "settings": {"location": {"proxy_pass": "http://unix:/run/measured/live.sock"}}
    },
}


@pytest.fixture(scope="module")
def arms(name: str) -> Iterator[dict[str, Any]]:
    asked = [{"name": what, **how} for what, how in SABOTAGES.items()]
    service = VARS["fastapi_service_name"]
    got = run_module(name, "benchmark_arms", name=service, arms=asked, lifetime_s=120)
    yield {arm["name"]: arm for arm in got["arms"]}
    run_module(name, "benchmark_arms", name=service, state="absent")


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_sabotaged_site_is_caught(
    name: str, arms: dict[str, Any], sabotage: str
) -> None:
    arm = arms[sabotage]
    got = run_module(
        name,
        "http_benchmark",
        **{**SMALL, "connections": 20},
        url=arm["url"] + "/health",
        headers={"Host": "measured.test"},
        nginx_status_url=arm["nginx_status_url"],
        app_socket=arm["app_socket"],
        expect_upstream="kept",
    )
    assert got["valid"] is False
    assert "connections are not kept alive" in "; ".join(got["invalid_reasons"])
    assert got["reuse"]["upstream"]["agree"] is True


def test_arms_end_by_themselves(host: Host, name: str) -> None:
    service = VARS["fastapi_service_name"]
    asked = [{"name": "on"}, {"name": "alone", "kind": "direct"}]
    run_module(name, "benchmark_arms", name=service, arms=asked, lifetime_s=2)
    for _attempt in range(100):
        left = host.check_output(
            "systemctl list-units --all --no-legend 'keepalive-benchmark*'"
        )
        if not left:
            break
        time.sleep(0.2)
    assert not left
    assert not host.file("/var/cache/keepalive-benchmark/0").exists
