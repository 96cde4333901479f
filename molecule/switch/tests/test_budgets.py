"""A budget lowered between two releases, with nginx still on the old one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import BackgroundLoad, Deploy, Host

pytestmark = pytest.mark.on_hosts("d13")


def test_a_lower_drain_time_cuts_no_connection_of_the_old_one(
    host: Host,
    name: str,
    deploy: Deploy,
    under_load: Callable[..., BackgroundLoad],
) -> None:
    assert deploy(fastapi_service_drain_timeout_s=40).status == 0
    assert (
        "keepalive_time 28s;"
        in host.file("/etc/nginx/conf.d/alpha.conf").content_string
    )
    with under_load(host="alpha.test", connections=4, seconds=100):
        run = deploy(fastapi_service_drain_timeout_s=13, fastapi_service_workers=3)
    assert run.status == 0, run.why
    switch = run.result(name, "switch | ")
    assert switch["connections_cut"] == 0
    # How long it took depends on how old the connections were.
    limit_s = switch["invocation"]["module_args"]["drain_timeout_s"]
    assert limit_s >= 28
    assert deploy().status == 0
