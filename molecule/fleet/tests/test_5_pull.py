"""Twelve hosts that pull, none of them further than its cohort was promoted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from fleet_faults import FLEET
from pulling import REPO, UNIT, Repository, make_repository, refused
from soak_record import add_case

from conftest import GROUPS, connect, run_playbook

INTERVAL_S = 60
# How long a run takes is two cores' to say, for twelve hosts that all make one at once;
# what it takes on one host alone, the scenario `rollout` holds within 90 s.
LIMIT_S = 600
BALANCERS, GENERATOR = ["lb1", "lb2"], "gen1"
CANARIES = ["a1", "b1", "c1", "lb1"]
ALL = [*FLEET.hosts, *BALANCERS, GENERATOR]
STABLE = [name for name in ALL if name not in CANARIES]
PLAYS: list[dict[str, Any]] = [
    {"name": "Deploy", "import_playbook": "keepalive.fastapi.deploy"},
    {"name": "Balancer", "import_playbook": "keepalive.fastapi.balancer"},
    {
        "name": "Generator",
        "hosts": "generators",
        "gather_facts": False,
        "roles": ["keepalive.fastapi.load_generator"],
    },
]


@pytest.fixture(scope="module")
def repository(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Repository]:
    """Have all hosts pull; take that away afterwards."""
    groups = GROUPS["fleet"]["children"]
    inventory = {
        **groups,
        "fastapi": {"children": {"services": None}},
        "all": {"vars": {"fastapi_balancer_address": "{{ inventory_hostname }}"}},
    }
    folder = tmp_path_factory.mktemp("pull")
    made = make_repository(folder, ALL, inventory, PLAYS)
    playbook = folder.parent / "pull.yml"
    play = {
        "name": "Pull",
        "hosts": "fleet",
        "gather_facts": False,
        "roles": ["keepalive.fastapi.fastapi_pull"],
    }
    playbook.write_text(yaml.safe_dump([play]))
    settings = {
        "fastapi_pull_name": "alpha",
        "fastapi_pull_repo": REPO,
        "fastapi_pull_cohort": (
            f"{{{{ 'canary' if inventory_hostname in {CANARIES!r} else 'stable' }}}}"
        ),
        "fastapi_pull_allowed_signers": made.signers,
        "fastapi_pull_interval_s": INTERVAL_S,
        "fastapi_pull_spread_s": 0,
    }
    run = run_playbook(str(playbook), "fleet", **settings)
    assert run.status == 0, run.why
    for name in ALL:
        connect(name).check_output("git init --quiet --bare %s", REPO)
    yield made
    gone = run_playbook(str(playbook), "fleet", **settings, fastapi_pull_state="absent")
    assert gone.status == 0, gone.why


def converged(name: str, commit: str) -> bool:
    """Tell whether a host's last run was of that commit, and ended well."""
    said = connect(name).run(
        "git -C /var/lib/fastapi-pull/alpha/checkout rev-parse HEAD; "
        "systemctl show --value --property ActiveState,Result %s.service",
        UNIT,
    )
    return bool(said.stdout.split() == [commit, "success", "inactive"])


def wait_for(names: list[str], commit: str) -> dict[str, float]:
    """Wait until they have converged; return how long each took (seconds)."""
    begun = time.monotonic()
    took: dict[str, float] = {}
    while len(took) < len(names) and time.monotonic() - begun < LIMIT_S:
        for name in set(names) - set(took):
            if converged(name, commit):
                took[name] = round(time.monotonic() - begun, 1)
        time.sleep(1)
    return took


def test_all_converge_and_none_is_ahead(repository: Repository) -> None:
    commit = repository.release("pulled", repository.key)
    assert repository.promote("canary").status == 0
    canaries = wait_for(CANARIES, commit)
    ahead = [name for name in STABLE if converged(name, commit)]
    versions = FLEET.versions()
    assert repository.promote("stable").status == 0
    stable = wait_for(STABLE, commit)
    facts = {"interval_s": INTERVAL_S, "took_s": {**canaries, **stable}}
    add_case("fleet.json", "pull", {**facts, "ahead": ahead})
    assert ahead == []
    assert "pulled" not in [versions[name] for name in STABLE if name in versions]
    assert set(canaries) == set(CANARIES)
    assert set(stable) == set(STABLE)
    assert FLEET.all_run("pulled")


def test_an_unsigned_commit_is_refused_by_all(repository: Repository) -> None:
    commit = repository.release("unsigned")
    for cohort in ("canary", "stable"):
        branch = f"refs/heads/promoted/{cohort}"
        repository.git("push", "--quiet", "origin", f"{commit}:{branch}")
    told: set[str] = set()
    give_up = time.monotonic() + LIMIT_S
    while len(told) < len(ALL) and time.monotonic() < give_up:
        told |= {name for name in set(ALL) - told if refused(connect(name), commit)}
        time.sleep(1)
    versions = FLEET.versions()
    add_case("fleet.json", "unsigned commit", {"refused": sorted(told)})
    assert told == set(ALL)
    assert set(versions.values()) == {"pulled"}
