"""An operator's verbs while every kind of client is served."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import (
    BackgroundProbe,
    Deploy,
    Run,
    Script,
    Slots,
    run_playbook,
)

# On the third, test_faults recycles and goes back.
pytestmark = pytest.mark.on_hosts("d12", "d13")
ANOTHER = {"fastapi_service_environment": {"APP_VERSION": "2"}}


def version(script: Script) -> str:
    answer = script("get.py", host="alpha.test", path="/")
    return str(json.loads(answer["body"])["version"])


def switched(run: Run, name: str) -> dict[str, Any]:
    assert run.status == 0, run.why
    return run.result(name, "Switch to the other slot")


def test_release_rollback_and_recycle_lose_nothing(
    name: str,
    deploy: Deploy,
    slots: Slots,
    script: Script,
    probing: BackgroundProbe,
) -> None:
    assert deploy().status == 0
    first, live = version(script), slots("alpha")["live"]
    with probing:
        assert deploy(**ANOTHER).status == 0
        assert version(script) == "2"
        back = switched(run_playbook("playbooks/rollback.yml", name), name)
        assert back["slot_to"] == live
        assert version(script) == first
        anew = switched(run_playbook("playbooks/recycle.yml", name), name)
        assert anew["slot_from"] == live
        assert anew["release_from"] == anew["release_to"]
    probing.assert_nothing_lost()
    assert deploy().stats(name)["changed"] == 0
