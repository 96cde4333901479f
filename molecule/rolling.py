"""Rollouts of lab hosts, run as a person runs them."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faults import PROGRAM

from conftest import (
    HOSTS,
    ROOT,
    Run,
    connect,
    playbook_command,
    run_ansible,
    served_version,
)

Events = list[dict[str, Any]]
# Of the three hosts that the scenarios have.
OF_THREE: dict[str, Any] = {
    "fastapi_rollout_soak_s": 3,
    # With the usual minute, the window would be refused.
    "fastapi_rollout_command_timeout_s": 10,
    "fastapi_rollout_window_s": 60,
    "fastapi_rollout_waves": ["2"],
}
# All that answers on a host, as a restart of it would.
DOWN_AND_UP = """
live=alpha@$(basename $(readlink /run/alpha/live.sock) .sock)
systemctl stop nginx $live.socket $live && sleep 5 && systemctl start $live.socket nginx
"""


def release(version: object) -> dict[str, Any]:
    """Return the variables of a release that tells its visitors this version."""
    return {"fastapi_service_environment": {"APP_VERSION": version}}


@dataclass(frozen=True)
class Fleet:
    """Hosts that a pattern names, rolled out to with these settings."""

    hosts: list[str]
    pattern: str
    reports: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def command(self, *options: str, **variables: object) -> list[str]:
        known = {
            "fastapi_rollout_hosts": self.pattern,
            "fastapi_rollout_reports_dir": str(self.reports),
            **self.settings,
            **variables,
        }
        return playbook_command("playbooks/rollout.yml", *options, variables=known)

    def roll(self, *options: str, **variables: object) -> Run:
        argv = self.command(*options, **variables)
        done, report = run_ansible(argv, timeout_s=1800)
        return Run(done.returncode, report, done.stdout + done.stderr)

    def start(self, **variables: object) -> subprocess.Popen[bytes]:
        """Begin a rollout in a process group of its own, and do not wait for it."""
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        self.reports.mkdir(parents=True, exist_ok=True)
        with (self.reports / "controller.log").open("a") as log:
            return subprocess.Popen(
                self.command(**variables),
                cwd=ROOT,
                env=env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def versions(self) -> dict[str, str]:
        """Return what each host's visitors get."""
        return {name: served_version(connect(name)) for name in self.hosts}

    def all_run(self, version: str) -> bool:
        return self.versions() == dict.fromkeys(self.hosts, version)

    def status(self, name: str) -> dict[str, Any]:
        return dict(json.loads(connect(name).check_output("%s status --json", PROGRAM)))

    def on_trial(self) -> list[str]:
        return [name for name in self.hosts if self.status(name)["trial"]]

    def on_one(self) -> str:
        """Have all on one version, whichever that is, and none on trial; return it."""
        versions = set(self.versions().values())
        if len(versions) == 1 and not self.on_trial():
            return versions.pop()
        run = self.roll(**release("one"))
        assert run.status == 0, run.why
        return "one"

    @property
    def journal(self) -> Path | None:
        """Return the latest rollout's journal."""
        return max((self.reports / "rollouts").glob("*.jsonl"), default=None)

    def events(self) -> Events:
        """Return all that the latest journal says."""
        assert self.journal
        return [json.loads(line) for line in self.journal.read_text().splitlines()]


def fleet_of_three(reports: Path) -> Fleet:
    return Fleet(list(HOSTS), "molecule", reports, OF_THREE)
