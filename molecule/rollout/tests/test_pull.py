"""Hosts that fetch what their cohort has been promoted to, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import copy_source

from conftest import (
    LAB,
    ROOT,
    Host,
    Run,
    connect,
    run_ansible,
    run_playbook,
    served_version,
)

INTERVAL_S = 10
# What a run takes on two slow cores, on top of the interval.
LIMIT_S = INTERVAL_S + 90
COHORTS = {"d12": "canary", "d13": "stable"}
REPO = "/srv/pull.git"
UNIT = "fastapi-pull-alpha"
DEPLOYS = [{"name": "Deploy", "import_playbook": "keepalive.fastapi.deploy"}]


@dataclass(frozen=True)
class Repository:
    """A clone on the controller; the hosts' own copies are its one remote."""

    folder: Path
    key: Path

    def git(self, *words: str) -> str:
        env = {**os.environ, "GIT_SSH_COMMAND": f"ssh -F {LAB / 'ssh_config'}"}
        who = ["-c", "user.name=tester", "-c", "user.email=tester@example.com"]
        done = subprocess.run(
            ["git", *who, *words],
            cwd=self.folder,
            env=env,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    @property
    def signers(self) -> list[str]:
        return [
            "tester@example.com " + self.key.with_suffix(".pub").read_text().strip()
        ]

    def release(self, version: str, *, signed: bool = True) -> str:
        """Commit another version; return the commit."""
        settings = {"fastapi_service_environment": {"APP_VERSION": version}}
        path = self.folder / "inventory/group_vars/fastapi.yml"
        path.write_text(yaml.safe_dump(settings))
        signing = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={self.key}"]
        self.git("add", ".")
        self.git(*signing, "commit", "-m", version, *(["-S"] if signed else []))
        return self.git("rev-parse", "HEAD")

    def promote(self, cohort: str, **variables: object) -> Run:
        """Promote the latest commit as a person would."""
        asked = {
            "fastapi_pull_checkout": str(self.folder),
            "fastapi_pull_allowed_signers": self.signers,
            "fastapi_pull_cohort": cohort,
            **variables,
        }
        argv = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            f"--extra-vars={json.dumps(asked)}",
            "playbooks/promote.yml",
        ]
        ssh = f"ssh -F {LAB / 'ssh_config'}"
        done, report = run_ansible(argv, GIT_SSH_COMMAND=ssh)
        return Run(done.returncode, report, done.stdout + done.stderr)


def fill(folder: Path) -> None:
    """Write what a team's repository holds: playbook, inventory, collection, app."""
    (folder / "site.yml").write_text(yaml.safe_dump(DEPLOYS))
    copy_source(folder / "app")
    collection = folder / "collections/ansible_collections/keepalive/fastapi"
    for name in ("roles", "plugins", "playbooks", "meta"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, collection / name, ignore=leave)
    shutil.copy(ROOT / "galaxy.yml", collection)
    inventory = folder / "inventory"
    (inventory / "group_vars").mkdir(parents=True)
    hosts = {"fastapi": {"hosts": dict.fromkeys(COHORTS)}}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
    known = ROOT / "molecule/inventory/group_vars"
    (shared,) = [path for path in known.rglob("*.yml") if "alpha" in path.read_text()]
    settings: dict[str, Any] = yaml.safe_load(shared.read_text())
    del settings["fastapi_service_git_cache"]
    settings["fastapi_service_source_path"] = "{{ inventory_dir | dirname }}/app"
    settings["fastapi_service_ca_bundle"] = "/etc/ssl/certs/ca-certificates.crt"
    (inventory / "group_vars/all.yml").write_text(yaml.safe_dump(settings))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("pull")
    key = folder.parent / "pull-key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True
    )
    made = Repository(folder, key)
    made.git("init", "--quiet", "--initial-branch=main")
    fill(folder)
    made.git("remote", "add", "origin", f"{next(iter(COHORTS))}:{REPO}")
    for name in COHORTS:
        made.git("remote", "set-url", "--add", "--push", "origin", f"{name}:{REPO}")
    return made


def set_up(name: str, repository: Repository, **variables: object) -> Run:
    return run_playbook(
        "playbooks/pull.yml",
        name,
        fastapi_pull_repo=REPO,
        fastapi_pull_cohort=COHORTS[name],
        fastapi_pull_allowed_signers=repository.signers,
        fastapi_pull_interval_s=INTERVAL_S,
        fastapi_pull_spread_s=0,
        **variables,
    )


@pytest.fixture(scope="module")
def hosts(repository: Repository) -> Any:
    """Have both hosts pull; take that away afterwards."""
    reached = {name: connect(name) for name in COHORTS}
    for name, host in reached.items():
        run = set_up(name, repository)
        assert run.status == 0, run.output
        host.check_output("git init --quiet --bare %s", REPO)
        again = set_up(name, repository)
        assert again.stats(name)["changed"] == 0, again.output
    yield reached
    for name, host in reached.items():
        for _time in range(2):
            run = set_up(name, repository, fastapi_pull_state="absent")
            assert run.status == 0, run.output
        assert run.stats(name)["changed"] == 0
        host.check_output("rm -r %s", REPO)


def comes_to(host: Host, wanted: str) -> None:
    give_up = time.monotonic() + LIMIT_S
    while served_version(host) != wanted:
        log = host.run(f"journalctl --quiet --output=cat --lines=60 -u {UNIT}")
        assert time.monotonic() < give_up, log.stdout
        time.sleep(1)


def test_a_cohort_gets_what_it_is_promoted_to(
    repository: Repository, hosts: dict[str, Host]
) -> None:
    repository.release("pulled 1")
    ahead = repository.promote("stable")
    assert ahead.status != 0
    assert "has not been promoted to the cohort canary" in ahead.failure("localhost")
    run = repository.promote("canary")
    assert run.status == 0, run.output
    comes_to(hosts["d12"], "pulled 1")
    assert served_version(hosts["d13"]) != "pulled 1"
    assert repository.promote("stable").status == 0
    comes_to(hosts["d13"], "pulled 1")
    again = repository.promote("stable")
    assert again.stats("localhost")["changed"] == 0


def test_what_nobody_signed_is_not_run(
    repository: Repository, hosts: dict[str, Host]
) -> None:
    commit = repository.release("unsigned", signed=False)
    refused = repository.promote("canary")
    assert refused.status != 0
    # Someone with access to the repository goes round it.
    repository.git("push", "--quiet", "origin", f"{commit}:refs/heads/promoted/canary")
    host = hosts["d12"]
    give_up = time.monotonic() + LIMIT_S
    log = ""
    while "Failed to verify" not in log:
        log = host.check_output(f"journalctl --quiet --output=cat -u {UNIT}")
        assert time.monotonic() < give_up, log
        time.sleep(1)
    time.sleep(2 * INTERVAL_S)
    assert served_version(host) == "pulled 1"
    # A cohort goes back by force, and on from there.
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    repository.release("pulled 2")
    assert repository.promote("canary").status != 0
    assert repository.promote("canary", fastapi_pull_allow_back=True).status == 0
    comes_to(host, "pulled 2")
