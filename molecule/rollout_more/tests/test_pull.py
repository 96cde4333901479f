"""Hosts that fetch what their cohort has been promoted to, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pulling import REPO, UNIT, Repository, make_key, make_repository, refused

from conftest import Host, Run, connect, run_playbook, served_version

INTERVAL_S = 10
# What a run takes on two slow cores, on top of the interval.
LIMIT_S = INTERVAL_S + 90
COHORTS = {"d12": "canary", "d13": "stable"}
DEPLOYS = [{"name": "Deploy", "import_playbook": "keepalive.fastapi.deploy"}]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    inventory = {"fastapi": {"hosts": dict.fromkeys(COHORTS)}}
    folder = tmp_path_factory.mktemp("pull")
    return make_repository(folder, list(COHORTS), inventory, DEPLOYS)


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
        assert run.status == 0, run.why
        host.check_output("git init --quiet --bare %s", REPO)
        again = set_up(name, repository)
        assert again.stats(name)["changed"] == 0, again.why
    yield reached
    for name, host in reached.items():
        for _time in range(2):
            run = set_up(name, repository, fastapi_pull_state="absent")
            assert run.status == 0, run.why
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
    repository.release("pulled 1", repository.key)
    ahead = repository.promote("stable")
    assert ahead.status != 0
    assert "has not been promoted to the cohort canary" in ahead.failure("localhost")
    run = repository.promote("canary")
    assert run.status == 0, run.why
    comes_to(hosts["d12"], "pulled 1")
    assert served_version(hosts["d13"]) != "pulled 1"
    assert repository.promote("stable").status == 0
    comes_to(hosts["d13"], "pulled 1")
    again = repository.promote("stable")
    assert again.stats("localhost")["changed"] == 0


def push(repository: Repository, commit: str) -> None:
    """Go round what promotes, as who may push to the repository could."""
    branch = "refs/heads/promoted/canary"
    repository.git("push", "--quiet", "--force", "origin", f"{commit}:{branch}")


def is_refused(repository: Repository, host: Host, commit: str) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not refused(host, commit):
        log = host.run(f"journalctl --quiet --output=cat --lines=60 -u {UNIT}")
        assert time.monotonic() < give_up, log.stdout
        time.sleep(1)
    assert served_version(host) == "pulled 1"
    repository.git("reset", "--quiet", "--hard", "HEAD~1")


def test_what_nobody_signed_is_not_run(
    repository: Repository, hosts: dict[str, Host], tmp_path: Path
) -> None:
    good = repository.git("rev-parse", "HEAD")
    for name, key in (("unsigned", None), ("forged", make_key(tmp_path / "other"))):
        commit = repository.release(name, key)
        told = repository.promote("canary")
        assert "has signed it" in told.failure("localhost")
        push(repository, commit)
        is_refused(repository, hosts["d12"], commit)
    # A tag of the branch's name, at what is signed, for git to find first.
    repository.git("push", "--quiet", "origin", f"{good}:refs/tags/promoted/canary")
    commit = repository.release("behind a tag")
    push(repository, commit)
    is_refused(repository, hosts["d12"], commit)
    repository.git("push", "--quiet", "origin", ":refs/tags/promoted/canary")


def test_a_cohort_goes_back_by_force_and_on_from_there(
    repository: Repository, hosts: dict[str, Host]
) -> None:
    repository.release("pulled 2", repository.key)
    told = repository.promote("canary")
    assert "fastapi_pull_allow_back" in told.failure("localhost")
    assert repository.promote("canary", fastapi_pull_allow_back=True).status == 0
    comes_to(hosts["d12"], "pulled 2")
