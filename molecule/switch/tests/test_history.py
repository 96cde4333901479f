"""What a host records of its deployments, and does not go back to."""

from __future__ import annotations

import pytest

from conftest import Deploy, Host, run_module, run_playbook

pytestmark = pytest.mark.on_hosts("d12")


def test_what_failed_or_was_left_is_marked(
    host: Host, name: str, deploy: Deploy
) -> None:
    # What a rollout left behind would be good as well.
    assert deploy().status == 0
    another = {"fastapi_service_environment": {"APP_VERSION": "2"}}
    assert deploy(**another).status == 0
    assert deploy(fastapi_service_app="keepalive_demo.missing:app").status != 0
    run = run_playbook("playbooks/rollback.yml", name)
    assert run.status == 0, run.why
    back = run.result(name, "Switch to the other slot")
    known = run_module(name, "fastapi_service_info", name="alpha")["history"]
    assert [each["verdict"] for each in known[:3]] == ["good", "bad", "bad"]
    assert known[1]["reason"] == f"left by a rollback to {back['release_to']}"
    assert "ended while it started" in known[2]["reason"]
    environment = host.file(f"/etc/alpha/{back['slot_to']}/environment")
    assert "APP_VERSION" not in environment.content_string
    assert host.file("/etc/alpha/history").mode == 0o700
    assert deploy().stats(name)["changed"] == 0
