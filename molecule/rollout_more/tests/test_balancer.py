"""A balancer before the fleet: a host is taken down and nobody notices."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from rolling import DOWN_AND_UP

from conftest import JSON_HEADERS, POST, BackgroundProbe, Host, Run, run_playbook

# nginx 1.30: its reload leaves clients that idle their connection.
pytestmark = pytest.mark.on_hosts("n130")
PORT = 8090
MEMBERS = ["d12", "d13"]
LANES: list[dict[str, Any]] = [
    {"name": "POST kept", "url": f"http://127.0.0.1:{PORT}/async/items/", **POST},
    {
        "name": "POST new",
        "url": f"http://127.0.0.1:{PORT}/sync/items/",
        **POST,
        "keepalive": False,
    },
    {
        "name": "GET kept",
        "url": f"http://127.0.0.1:{PORT}/health",
        "headers": JSON_HEADERS,
        "rate_per_s": 50,
    },
]
SETTINGS: dict[str, Any] = {
    "fastapi_balancer_name": "edge",
    "fastapi_balancer_group": "members",
    "fastapi_balancer_server_names": ["alpha.test"],
    "fastapi_balancer_http_port": PORT,
    "nginx_proxy_default_http_ports": [80, PORT],
}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory, name: str) -> str:
    path = tmp_path_factory.mktemp("balancer") / "hosts.yml"
    members = {"hosts": dict.fromkeys(MEMBERS)}
    groups = {"balancers": {"hosts": {name: None}}, "members": members}
    path.write_text(yaml.safe_dump(groups))
    return str(path)


@pytest.fixture(scope="module")
def balanced(inventory: str, name: str) -> None:
    run = balance(inventory)
    assert run.status == 0, run.why
    assert balance(inventory).stats(name)["changed"] == 0


def balance(inventory: str, playbook: str = "balancer", **variables: object) -> Run:
    return run_playbook(
        f"playbooks/{playbook}.yml",
        "molecule",
        "-i",
        inventory,
        **{**SETTINGS, **variables},
    )


def test_requests_reach_all_members(
    balanced: None, host: Host, inventory: str, name: str
) -> None:
    site = host.file("/etc/nginx/conf.d/edge-balancer.conf").content_string
    assert all(f"server {each}:80 weight=1 " in site for each in MEMBERS)
    with BackgroundProbe(host, name, LANES, service="edge-balancer") as probe:
        pass
    probe.assert_nothing_lost()


def test_a_host_is_taken_down_and_nothing_is_lost(
    balanced: None, host: Host, inventory: str, name: str
) -> None:
    with BackgroundProbe(host, name, LANES, service="edge-balancer") as probe:
        run = balance(
            inventory,
            "maintain",
            fastapi_balancer_maintain=MEMBERS,
            fastapi_balancer_maintain_command=["sh", "-c", DOWN_AND_UP],
        )
        assert run.status == 0, run.why
    probe.assert_nothing_lost()
    assert balance(inventory).stats(name)["changed"] == 0


def test_the_last_host_is_not_taken_out(
    balanced: None, inventory: str, name: str
) -> None:
    run = balance(inventory, fastapi_balancer_drained=MEMBERS)
    assert run.status != 0
    assert "one host must be left" in run.failure(name)


def test_connections_are_not_kept_longer_than_the_hosts_do(
    balanced: None, inventory: str, name: str
) -> None:
    run = balance(inventory, fastapi_balancer_upstream_idle_s=300)
    assert run.status != 0
    assert "d12 is 70, which it may not be above" in run.failure(name)
