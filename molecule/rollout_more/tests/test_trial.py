"""Deployments on trial: confirmed, not confirmed, and cut short by a reboot."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from faults import PROGRAM

from conftest import (
    BackgroundProbe,
    Deploy,
    Host,
    Slots,
    restart,
    run_playbook,
    served_version,
)

# nginx 1.30: TRIED changes the site, and its reload leaves clients that idle theirs.
pytestmark = pytest.mark.on_hosts("n130")
WINDOW_S = 15
# Another site as well, so that both have to come back.
TRIED: dict[str, Any] = {
    "fastapi_service_environment": {"APP_VERSION": "tried"},
    "fastapi_service_body_limit": "3m",
    "fastapi_service_confirm_window_s": WINDOW_S,
}
SITE = "/etc/nginx/conf.d/alpha.conf"


def ends_by_itself(host: Host) -> float:
    """Wait until no trial is under way; return how long that took."""
    begun = time.monotonic()
    while json.loads(host.check_output("%s status --json", PROGRAM))["trial"]:
        assert time.monotonic() - begun < 60
        time.sleep(0.2)
    return time.monotonic() - begun


@pytest.fixture(autouse=True)
def deployed(deploy: Deploy) -> None:
    assert deploy().status == 0


def test_not_confirmed_it_goes_back_by_itself(
    host: Host,
    name: str,
    deploy: Deploy,
    slots: Slots,
    probing: BackgroundProbe,
) -> None:
    before, site = slots("alpha"), host.file(SITE).content_string
    with probing:
        run = deploy(**TRIED)
        assert run.status == 0, run.why
        assert served_version(host) == "tried"
        assert slots("alpha")["green"] == slots("alpha")["blue"] == "active"
        ends_by_itself(host)
        assert served_version(host) != "tried"
    probing.assert_nothing_lost()
    assert slots("alpha") == before
    assert host.file(SITE).content_string == site
    journal = host.check_output("journalctl --quiet --output=cat -u alpha-revert")
    assert "rolled back: release" in journal
    late = run_playbook("playbooks/confirm.yml", name)
    assert late.status != 0
    assert "gone back by itself" in late.failure(name)
    assert deploy().stats(name)["changed"] == 0


def test_confirmed_it_stays(
    host: Host,
    name: str,
    deploy: Deploy,
    slots: Slots,
    probing: BackgroundProbe,
) -> None:
    before = slots("alpha")["live"]
    with probing:
        assert deploy(**TRIED).status == 0
        run = run_playbook("playbooks/confirm.yml", name)
        assert run.status == 0, run.why
        assert slots("alpha")[before] == "inactive"
    probing.assert_nothing_lost()
    time.sleep(WINDOW_S)
    assert served_version(host) == "tried"
    assert not host.file("/run/systemd/system/alpha-revert.timer").exists
    again = deploy(**TRIED)
    assert again.stats(name)["changed"] == 0
    assert ends_by_itself(host) < 1


def test_a_reboot_comes_back_to_what_was(
    host: Host, name: str, deploy: Deploy, slots: Slots
) -> None:
    before, site = slots("alpha"), host.file(SITE).content_string
    assert deploy(**{**TRIED, "fastapi_service_confirm_window_s": 600}).status == 0
    restart(name)
    assert served_version(host) != "tried"
    ends_by_itself(host)
    assert slots("alpha") == before
    assert host.file(SITE).content_string == site
    assert deploy().stats(name)["changed"] == 0
