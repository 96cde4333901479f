"""What a run costs: beside a bare nginx role's, and from nine hosts to a thousand."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet_faults import FLEET
from rolling import release
from soak_record import add_case

from conftest import ROOT, Run, connect, playbook_command, run_playbook

PAIRS = 5
MANY = [100, 300, 1000]
CONNECTIONS = ROOT / "molecule/fleet/connection"
# The least that a role for nginx does, and what the most used one does.
BARE = ROOT / "molecule/fleet/bare"
CONFIGURATION = {"fastapi_service_body_limit": "3m"}
RELEASE = release("costly")


class Memory:
    """The most that a run's processes have used, each and together (PSS, in MB)."""

    def __init__(self, pid: int) -> None:
        self.most_each = self.most_all = 0.0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        pause_s = 0.0
        while not self._ended.wait(pause_s):
            begun = time.monotonic()
            used = [pss_mb(pid) for pid in [self._pid, *children(self._pid)]]
            self.most_all = max(self.most_all, sum(used))
            self.most_each = max(self.most_each, *used[1:], 0.0)
            # A look holds up what it looks at: one each half second cost a fifth more.
            pause_s = max(0.5, min(10.0, 50 * (time.monotonic() - begun)))

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in text.split()]


def pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(e.split()[1]) for e in lines if e.startswith("Pss:")) / 1000


def measured(argv: list[str], hosts: int, **settings: str) -> dict[str, Any]:
    """Run it; return its time, and what it took of the controller."""
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **settings}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with subprocess.Popen(
        argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        memory = Memory(process.pid)
        said = process.communicate()[0].decode()
        wall_s = time.monotonic() - begun
        memory.end()
    assert process.returncode == 0, said[-3000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = sum(
        getattr(after, kind) - getattr(before, kind)
        for kind in ("ru_utime", "ru_stime")
    )
    return {
        "hosts": hosts,
        "wall_s": round(wall_s, 1),
        "controller_cpu_s": round(cpu_s, 1),
        "controller_cpu_s_per_host": round(cpu_s / hosts, 2),
        "memory_mb": round(memory.most_all),
        "memory_of_a_fork_mb": round(memory.most_each),
    }


def test_what_nothing_to_do_costs_beside_a_bare_nginx_role() -> None:
    assert run_playbook("site.yml", "services").status == 0
    host = connect(FLEET.hosts[0])
    texts = {
        path: host.file(path).content_string
        for path in ("/etc/nginx/nginx.conf", "/etc/nginx/conf.d/alpha.conf")
    }
    plays = {
        "ours": playbook_command("site.yml", "--limit=services", variables={}),
        **{
            name: playbook_command(f"{BARE}/{name}.yml", variables={"texts": texts})
            for name in ("least", "usual")
        },
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in plays}
    for number in range(PAIRS):
        for name in list(plays)[:: -1 if number % 2 else 1]:
            runs[name].append(measured(plays[name], len(FLEET.hosts)))
    ratios = {
        f"{key}, to {name}": round(
            statistics.median(
                ours[key] / other[key]
                for ours, other in zip(runs["ours"], runs[name], strict=True)
            ),
            3,
        )
        for name in ("least", "usual")
        for key in ("wall_s", "controller_cpu_s")
    }
    add_case("fleet.json", "cost: nothing to do", {"ratios": ratios, "runs": runs})


@pytest.mark.parametrize(
    ("what", "variables"), [("configuration", CONFIGURATION), ("release", RELEASE)]
)
def test_what_a_change_costs(what: str, variables: dict[str, Any]) -> None:
    argv = playbook_command("site.yml", "--limit=services", variables=variables)
    facts = measured(argv, len(FLEET.hosts))
    add_case("fleet.json", f"cost: {what}", facts)
    assert run_playbook("site.yml", "services").status == 0


def answers(run: Run, folder: Path) -> None:
    """Keep what each module has answered on one host."""
    for _task, told in run.results(FLEET.hosts[0]):
        if told.get("skipped"):
            continue
        action = str(told.get("action", "")).rpartition(".")[2]
        kept = {
            key: value
            for key, value in told.items()
            if not key.startswith("_ansible") and key != "action"
        }
        (folder / f"{action}.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("count", MANY)
@pytest.mark.parametrize(
    ("what", "variables"),
    [("nothing to do", {}), ("configuration", CONFIGURATION), ("release", RELEASE)],
)
def test_what_a_thousand_hosts_cost(
    count: int, what: str, variables: dict[str, Any], tmp_path: Path
) -> None:
    """Stubs in place of hosts: what the controller has to do for each."""
    run = run_playbook("site.yml", FLEET.hosts[0], **variables)
    assert run.status == 0, run.why
    answers(run, tmp_path)
    stubs = {f"stub{number}": None for number in range(count)}
    group = {"hosts": stubs, "vars": {"ansible_connection": "replay"}}
    inventory = tmp_path / "stubs.yml"
    inventory.write_text(yaml.safe_dump({"services": {"children": {"stubs": group}}}))
    options = ["-i", str(inventory), "--limit=stubs"]
    # That of the inventory is beside the inventory, and of a group nearer to the stubs.
    source = {"fastapi_service_source_path": str(ROOT / "examples/demo_app")}
    argv = playbook_command("site.yml", *options, variables={**variables, **source})
    facts = measured(
        argv,
        count,
        ANSIBLE_CONNECTION_PLUGINS=str(CONNECTIONS),
        REPLAY_ANSWERS=str(tmp_path),
    )
    add_case("fleet.json", f"cost of {count} stubs: {what}", facts)
    assert run_playbook("site.yml", FLEET.hosts[0]).status == 0
