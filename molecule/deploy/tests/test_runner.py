"""ansible-runner, which AWX is built on, runs the project as it is."""

from __future__ import annotations

from pathlib import Path

import ansible_runner
import pytest

from conftest import INVENTORIES, ROOT, Deploy

pytestmark = pytest.mark.on_hosts("d13")


def test_ansible_runner_finds_nothing_to_change(
    name: str, deploy: Deploy, tmp_path: Path
) -> None:
    assert deploy().status == 0
    run = ansible_runner.run(
        private_data_dir=str(tmp_path),
        project_dir=str(ROOT),
        playbook="site.yml",
        cmdline=" ".join([*INVENTORIES, "--limit", name]),
        envvars={"ANSIBLE_INJECT_FACT_VARS": "false"},
        quiet=True,
    )
    assert run.status == "successful", run.stdout.read()
    assert set(run.stats["ok"]) == {name}
    assert run.stats["changed"] == {}
