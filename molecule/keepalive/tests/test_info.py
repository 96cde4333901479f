"""keepalive_info finds nothing on a sound host, and what is broken on another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from conftest import Host, run_playbook

pytestmark = pytest.mark.on_hosts("d13", "n130")
SITE, KEPT = "/etc/nginx/conf.d/counted.conf", "/root/counted.conf.kept"
Sabotage: TypeAlias = Callable[[str], None]
RELOAD = "nginx -s reload; sleep 1"


def findings(name: str) -> dict[str, str]:
    """Return the severity of each finding about the service, by its id.

    Other scenarios leave services on the host that are not sound on purpose.
    """
    run = run_playbook("playbooks/info.yml", name, fastapi_service_name="counted")
    assert run.status == 0, run.why
    found = run.result(name, "what is in force")["findings"]
    for each in found:
        assert (f"{each['id']}: " in run.output) == (each["severity"] != "info")
    mine = [each for each in found if "counted" in str(each)]
    return {each["id"]: each["severity"] for each in mine}


@pytest.fixture
def sabotage(host: Host) -> Iterator[Sabotage]:
    """Return a function that edits the site by sed and has nginx take it."""

    def edit(script: str) -> None:
        host.check_output("sed -i %s %s", script, SITE)
        host.check_output(RELOAD)

    host.check_output("cp --preserve %s %s", SITE, KEPT)
    yield edit
    host.check_output("mv %s %s", KEPT, SITE)
    host.check_output(RELOAD)


def on_by_default(name: str) -> bool:
    return name == "n130"


def test_a_deployed_service_has_no_findings(name: str) -> None:
    assert set(findings(name).values()) <= {"info"}


def test_a_header_in_the_location_drops_connection(
    name: str, sabotage: Sabotage
) -> None:
    sabotage(r"s/^    location \/ {/&\nproxy_set_header X-Foo bar;/")
    found = findings(name)
    if on_by_default(name):
        assert found == {"headers_dropped": "info"}
    else:
        assert found["connection_header_dropped"] == "error"


def test_a_pool_of_none_is_an_error(name: str, sabotage: Sabotage) -> None:
    pool = "keepalive 0;" if on_by_default(name) else ""
    sabotage(f"s/^    keepalive [0-9]*;/{pool}/")
    assert findings(name)["upstream_pool_zero"] == "error"


def test_straight_to_the_socket_is_an_error(name: str, sabotage: Sabotage) -> None:
    live = r"http:\/\/unix:\/run\/counted\/live.sock;"
    sabotage(rf"s/proxy_pass http:\/\/keepalive_counted;/proxy_pass {live}/")
    assert findings(name)["upstream_implicit"] == "error"
