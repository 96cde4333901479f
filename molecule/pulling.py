"""A repository that lab hosts pull from, as a team keeps one."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from faults import copy_source
from rolling import release

from conftest import LAB, LAB_INVENTORY, ROOT, Host, Run, playbook_command, run_ansible

REPO = "/srv/pull.git"
UNIT = "fastapi-pull-alpha"


@dataclass(frozen=True)
class Repository:
    """A clone on the controller; the hosts' own copies are its one remote."""

    folder: Path
    key: Path
    hosts: list[str]

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

    def release(self, version: str, key: Path | None = None) -> str:
        """Commit another version, signed with a key, if any; return the commit."""
        path = self.folder / "inventory/group_vars/fastapi.yml"
        path.write_text(yaml.safe_dump(release(version)))
        signing = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={key}"]
        self.git("add", ".")
        self.git(*signing, "commit", "-m", version, *(["-S"] if key else []))
        return self.git("rev-parse", "HEAD")

    def promote(self, cohort: str, **variables: object) -> Run:
        """Promote the latest commit as a person would."""
        asked = {
            "fastapi_pull_checkout": str(self.folder),
            "fastapi_pull_allowed_signers": self.signers,
            "fastapi_pull_cohort": cohort,
            **variables,
        }
        argv = playbook_command("playbooks/promote.yml", variables=asked)
        ssh = f"ssh -F {LAB / 'ssh_config'}"
        done, report = run_ansible(argv, GIT_SSH_COMMAND=ssh)
        return Run(done.returncode, report, done.stdout + done.stderr)


def fill(folder: Path, inventory: dict[str, Any], plays: list[dict[str, Any]]) -> None:
    """Write what a team's repository holds: playbook, inventory, collection, app."""
    (folder / "site.yml").write_text(yaml.safe_dump(plays))
    copy_source(folder / "app")
    collection = folder / "collections/ansible_collections/keepalive/fastapi"
    for name in ("roles", "plugins", "playbooks", "meta"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, collection / name, ignore=leave)
    shutil.copy(ROOT / "galaxy.yml", collection)
    shared = (LAB_INVENTORY / "group_vars/scenarios.yml").read_text()
    settings: dict[str, Any] = yaml.safe_load(shared)
    del settings["fastapi_service_git_cache"]
    settings["fastapi_service_source_path"] = "{{ inventory_dir | dirname }}/app"
    settings["fastapi_service_ca_bundle"] = "/etc/ssl/certs/ca-certificates.crt"
    group_vars = folder / "inventory/group_vars"
    group_vars.mkdir(parents=True)
    (group_vars / "all.yml").write_text(yaml.safe_dump(settings))
    (folder / "inventory/hosts.yml").write_text(yaml.safe_dump(inventory))


def make_key(path: Path) -> Path:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(argv, check=True)
    return path


def make_repository(
    folder: Path,
    hosts: list[str],
    inventory: dict[str, Any],
    plays: list[dict[str, Any]],
) -> Repository:
    """Make one that is pushed to a copy on each of these hosts."""
    made = Repository(folder, make_key(folder.parent / "pull-key"), hosts)
    made.git("init", "--quiet", "--initial-branch=main")
    fill(folder, inventory, plays)
    made.git("remote", "add", "origin", f"{hosts[0]}:{REPO}")
    for name in hosts:
        made.git("remote", "set-url", "--add", "--push", "origin", f"{name}:{REPO}")
    return made


def refused(host: Host, commit: str) -> bool:
    """Tell whether a host has fetched a commit, and gone no further with it."""
    said = host.run(
        "git -C /var/lib/fastapi-pull/alpha/verified.git rev-parse refs/fetched "
        "refs/heads/verified; systemctl show --value --property Result %s.service",
        UNIT,
    )
    fetched, *verified, result = str(said.stdout).split() or [""] * 2
    return fetched == commit and commit not in verified and result == "exit-code"
