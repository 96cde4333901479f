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
CONFIGURATION = {"fastapi_service_body_limit": "3m"}
RELEASE = release("costly")


class Memory:
    """The most that a run's processes have used, each and together (PSS, in MB)."""

    def __init__(self, pid: int) -> None:
        self.most_each = self.most_all = 0.0
        self._pid = pid
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while Path(f"/proc/{self._pid}").exists():
            used = [pss_mb(pid) for pid in [self._pid, *children(self._pid)]]
            self.most_all = max(self.most_all, sum(used))
            self.most_each = max(self.most_each, *used[1:], 0.0)
            time.sleep(0.5)

    def join(self) -> None:
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
        memory.join()
    assert process.returncode == 0, said[-3000:]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = sum(
        getattr(after, kind) - getattr(before, kind)
        for kind in ("ru_utime", "ru_stime")
    )
    return {
        "hosts": hosts,
        "wall_s": round(time.monotonic() - begun, 1),
        "controller_cpu_s": round(cpu_s, 1),
        "controller_cpu_s_per_host": round(cpu_s / hosts, 2),
        "memory_mb": round(memory.most_all),
        "memory_of_a_fork_mb": round(memory.most_each),
    }


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write what any role for nginx does at least; return the playbook."""
    host = connect(FLEET.hosts[0])
    files = {
        f"/etc/nginx/{name}": host.file(f"/etc/nginx/{name}").content_string
        for name in ("nginx.conf", "conf.d/alpha.conf")
    }
    copies = [
        {
            "name": f"Put {path} in place",
            "ansible.builtin.copy": {"dest": path, "content": text, "mode": "0644"},
        }
        for path, text in files.items()
    ]
    tasks: list[dict[str, Any]] = [
        {"name": "Install", "ansible.builtin.apt": {"name": "nginx"}},
        *copies,
        {
            "name": "Remove the welcome page",
            "ansible.builtin.file": {
                "path": "/etc/nginx/sites-enabled/default",
                "state": "absent",
            },
        },
        {
            "name": "Run",
            "ansible.builtin.service": {
                "name": "nginx",
                "state": "started",
                "enabled": True,
            },
        },
    ]
    path = tmp_path_factory.mktemp("bare") / "nginx.yml"
    path.write_text(
        yaml.safe_dump([{"name": "nginx", "hosts": "services", "tasks": tasks}])
    )
    return str(path)


def test_what_nothing_to_do_costs_beside_a_bare_nginx_role(bare: str) -> None:
    """The bare role gathers facts, as plays do unless they are told not to."""
    assert run_playbook("site.yml", "services").status == 0
    count = len(FLEET.hosts)
    plays = {
        "ours": playbook_command("site.yml", "--limit=services", variables={}),
        "bare": playbook_command(bare, variables={}),
    }
    settings: dict[str, dict[str, str]] = {
        "ours": {},
        "bare": {"ANSIBLE_GATHERING": "implicit"},
    }
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "bare": []}
    for number in range(PAIRS):
        for who in ("ours", "bare") if number % 2 else ("bare", "ours"):
            runs[who].append(measured(plays[who], count, **settings[who]))
    ratios = {
        key: round(
            statistics.median(
                ours[key] / bare[key]
                for ours, bare in zip(runs["ours"], runs["bare"], strict=True)
            ),
            3,
        )
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
    settings = {
        "ansible_connection": "replay",
        # That of the inventory is beside the inventory.
        "fastapi_service_source_path": str(ROOT / "examples/demo_app"),
    }
    group = {"hosts": stubs, "vars": settings}
    inventory = tmp_path / "stubs.yml"
    inventory.write_text(yaml.safe_dump({"services": {"children": {"stubs": group}}}))
    options = ["-i", str(inventory), "--limit=stubs"]
    argv = playbook_command("site.yml", *options, variables=variables)
    facts = measured(
        argv,
        count,
        ANSIBLE_CONNECTION_PLUGINS=str(CONNECTIONS),
        REPLAY_ANSWERS=str(tmp_path),
    )
    add_case("fleet.json", f"cost of {count} stubs: {what}", facts)
    assert run_playbook("site.yml", FLEET.hosts[0]).status == 0
