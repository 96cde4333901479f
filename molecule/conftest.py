"""What the scenarios' tests share: the hosts, a deployment, a client under load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias
from uuid import uuid4

import pytest
import testinfra
import yaml
from xdist.scheduler import LoadScopeScheduling

Host: TypeAlias = Any  # testinfra.host.Host, which has no types
ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / ".lab"
LAB_INVENTORY = ROOT / "molecule/inventory"
INVENTORIES = ["-i", str(ROOT / "inventory/lab"), "-i", str(LAB_INVENTORY)]
GROUPS = yaml.safe_load((LAB_INVENTORY / "hosts.yml").read_text())["lab"]["children"][
    "scenarios"
]["children"]
HOSTS = GROUPS["molecule"]["hosts"]


def connect(name: str) -> Host:
    """Reach a lab host over SSH, as Ansible does."""
    return testinfra.get_host(
        f"ssh://{name}", ssh_config=str(LAB / "ssh_config"), controlpersist=60
    )


def is_reached(on: Host) -> bool:
    """Tell whether SSH reaches a host; testinfra raises if it does not."""
    try:
        return bool(on.run("true").rc == 0)
    except RuntimeError:
        return False


def without_ssh(on: Host, seconds: int) -> None:
    """Have nobody reach a host for so long, from in a moment; it serves on."""
    script = f"sleep 1; systemctl stop ssh.socket ssh; pkill sshd; sleep {seconds}"
    on.check_output("systemd-run --collect sh -c %s", f"{script}; systemctl start ssh")
    time.sleep(2)


def restart(name: str) -> None:
    """Reboot a lab host as its power switch would."""
    config = LAB / "containers.conf"
    env = {**os.environ, "CONTAINERS_CONF": str(config) if config.exists() else ""}
    label = ["--filter", f"label=keepalive-lab={LAB}", "--filter", f"name=-{name}$"]
    found = subprocess.run(
        ["podman", "ps", "--quiet", *label], env=env, check=True, capture_output=True
    )
    container = found.stdout.split()[0].decode()
    subprocess.run(["podman", "restart", container], env=env, check=True)
    up = ["podman", "exec", container, "systemctl", "is-system-running"]
    for _attempt in range(120):
        said = subprocess.run(up, env=env, capture_output=True, check=False).stdout
        if said.strip() in (b"running", b"degraded"):
            return
        time.sleep(0.5)
    pytest.fail(f"{name} does not come back within a minute")


class ByHost(LoadScopeScheduling):  # type: ignore[misc]
    """Hosts side by side; one host's tests in one process, in their order.

    pytest-xdist's own way, ``--dist loadgroup``, does not group with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        parameters = nodeid.rpartition("[")[2].rstrip("]").split("-")
        return next((name for name in HOSTS if name in parameters), nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByHost:
    return ByHost(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Keep what failed, for `make` to repeat below all that Molecule prints."""
    path, reports = os.environ.get("FAILED_TESTS"), terminalreporter.stats
    # What a worker of pytest-xdist has seen, its controller sees too.
    if not path or hasattr(terminalreporter.config, "workerinput"):
        return
    with Path(path).open("a") as kept:
        kept.writelines(
            f"FAILED {report.nodeid}\n{report.longreprtext[-1500:]}\n\n"
            for report in [*reports.get("error", []), *reports.get("failed", [])]
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once a host: on all, or on those that the mark ``on_hosts`` names."""
    if "name" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("on_hosts")
        names = mark.args if mark else list(HOSTS)
        metafunc.parametrize("name", names, scope="module")


@pytest.fixture(scope="module")
def host(name: str) -> Host:
    return connect(name)


@dataclass(frozen=True)
class Run:
    """One ansible-playbook run: its exit status and its results by task."""

    status: int
    report: dict[str, Any]
    output: str

    def stats(self, name: str) -> dict[str, int]:
        return dict(self.report["stats"][name])

    def results(self, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for play in self.report["plays"]:
            for task in play["tasks"]:
                if name in task["hosts"]:
                    yield task["task"]["name"], task["hosts"][name]

    def result(self, name: str, task: str) -> dict[str, Any]:
        return next(found for title, found in self.results(name) if task in title)

    @property
    def why(self) -> str:
        """Return what failed tasks said, or the end of all that was said."""
        told = [
            f"{name}: {found.get('msg', found)}"
            for name in self.report.get("stats", {})
            for found in self._failed(name)
        ]
        return "\n".join(told) or self.output[-3000:]

    def failure(self, name: str) -> str:
        """Return what a failed task told the person who ran it."""
        failed = self._failed(name)
        return json.dumps(failed[-1], indent=1) if failed else ""

    def _failed(self, name: str) -> list[dict[str, Any]]:
        results = [found for _task, found in self.results(name)]
        return [e for e in results if e.get("failed") or e.get("unreachable")]


def playbook_command(
    playbook: str, *options: str, variables: dict[str, Any]
) -> list[str]:
    """Return the command that runs a playbook, with extra variables."""
    return [
        str(Path(sys.executable).parent / "ansible-playbook"),
        *INVENTORIES,
        "--extra-vars",
        json.dumps(variables),
        *options,
        playbook,
    ]


def run_playbook(playbook: str, name: str, *options: str, **variables: object) -> Run:
    """Run a playbook against one lab host, with extra variables."""
    argv = playbook_command(playbook, "--limit", name, *options, variables=variables)
    # The first of a fleet's hosts on two cores takes minutes.
    done, report = run_ansible(argv, timeout_s=1200, ANSIBLE_INJECT_FACT_VARS="false")
    return Run(done.returncode, report, done.stdout + done.stderr)


def run_ansible(
    argv: list[str], *, timeout_s: int = 300, **settings: str
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run an Ansible command; return how it ended, and its results as JSON."""
    env = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        **settings,
    }
    done = subprocess.run(
        argv,
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    start = done.stdout.find("{\n")
    return done, json.loads(done.stdout[start:]) if start >= 0 else {}


def run_module(host_name: str, module: str, /, **options: object) -> dict[str, Any]:
    """Run one of the collection's modules on a host; return its result."""
    return run_long_module(host_name, module, options, timeout_s=300)


def run_long_module(
    host_name: str, module: str, options: dict[str, Any], *, timeout_s: int
) -> dict[str, Any]:
    """Run a module that may take so long."""
    argv = [
        str(Path(sys.executable).parent / "ansible"),
        *INVENTORIES,
        "--module-name",
        f"keepalive.fastapi.{module}",
        "--args",
        json.dumps(options),
        host_name,
    ]
    done, report = run_ansible(
        argv, timeout_s=timeout_s, ANSIBLE_LOAD_CALLBACK_PLUGINS="true"
    )
    assert report, done.stdout + done.stderr
    return dict(report["plays"][0]["tasks"][0]["hosts"][host_name])


Deploy = Callable[..., Run]
Script = Callable[..., dict[str, Any]]
Slots = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def deploy(name: str) -> Deploy:
    """Return a function that runs site.yml against the host under test."""

    def run(*options: str, **variables: object) -> Run:
        return run_playbook("site.yml", name, *options, **variables)

    return run


def run_script(on: Host, script: str, /, **options: object) -> dict[str, Any]:
    """Run one of molecule/*.py on the host with its Python; return its JSON."""
    text = (ROOT / "molecule" / script).read_text()
    done = on.run("python3 -c %s %s", text, json.dumps(options))
    assert done.rc == 0, done.stderr
    return dict(json.loads(done.stdout))


def served_version(on: Host) -> str:
    """Return what the host's visitors are told that they got."""
    answer = run_script(on, "get.py", host="alpha.test", path="/")
    return str(json.loads(answer["body"])["version"])


class BackgroundLoad:
    """The client on the host while something else is done."""

    def __init__(self, on: Host, /, **options: object) -> None:
        self.result: dict[str, Any] = {}
        self._host = on
        self._thread = threading.Thread(
            target=lambda: self.result.update(
                run_script(on, "load.py", stop_file="/run/load.stop", **options)
            )
        )

    def __enter__(self) -> Self:
        self._host.run("rm -f /run/load.stop")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._host.run("touch /run/load.stop")
        self._thread.join()


class BackgroundHold:
    """A WebSocket and a stream that are held until the server closes them."""

    def __init__(self, on: Host) -> None:
        self.found: dict[str, Any] = {}
        self._thread = threading.Thread(
            target=lambda: self.found.update(
                run_script(on, "hold.py", host="alpha.test")
            )
        )

    def __enter__(self) -> Self:
        self._thread.start()
        time.sleep(3)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


JSON_HEADERS = {"Host": "alpha.test", "Content-Type": "application/json"}
POST = {
    "method": "POST",
    "headers": JSON_HEADERS,
    "body": '{"name": "{number}", "price": 1.5}',
    "expected_text": '"name":"{number}"',
}
LANES: list[dict[str, Any]] = [
    {"name": "POST kept", "url": "http://127.0.0.1/async/items/", **POST},
    {
        "name": "POST new",
        "url": "http://127.0.0.1/sync/items/",
        **POST,
        "keepalive": False,
    },
    {
        "name": "TLS",
        "url": "https://127.0.0.1/async/items/",
        **POST,
        "validate_certs": False,
    },
    {
        "name": "GET kept",
        "url": "http://127.0.0.1/health",
        "headers": JSON_HEADERS,
        "rate_per_s": 50,
    },
    {
        "name": "GET new",
        "url": "http://127.0.0.1/health",
        "headers": {"Host": "alpha.test"},
        "keepalive": False,
    },
    {
        "name": "WebSocket",
        "kind": "websocket",
        "url": "ws://127.0.0.1/ws",
        "headers": JSON_HEADERS,
        "body": "n {number}",
        "expected_text": "n {number}",
        # As clients do that let a release end: it drains within its budget.
        "connection_max_s": 2,
    },
    {
        "name": "events",
        "url": "http://127.0.0.1/events?interval=0.1&count=10",
        "headers": {"Host": "alpha.test", "Accept": "text/event-stream"},
        "expected_text": "data: ",
        "rate_per_s": 2,
        "late_after_ms": 3000,
    },
]


class BackgroundProbe:
    """The loss probe on the host, over all lanes, while something else is done."""

    def __init__(
        self,
        on: Host,
        name: str,
        lanes: list[dict[str, Any]] | None = None,
        duration_s: int = 900,
        service: str = "alpha",
        at: Host | None = None,
    ) -> None:
        """Send from ``on``; the nginx that it reaches first is that ``at`` a host."""
        self.result: dict[str, Any] = {}
        self.lanes = lanes or LANES
        self._host = on
        self._at = at or on
        self._log = f"/var/log/nginx/{service}.access.log"
        self._lasted = False
        self._stop_file = f"/run/probe-{uuid4().hex}.stop"
        options = {
            "lanes": self.lanes,
            "duration_s": duration_s,
            "stop_file": self._stop_file,
        }
        self._thread = threading.Thread(
            target=lambda: self.result.update(
                run_long_module(name, "loss_probe", options, timeout_s=duration_s + 120)
            )
        )

    def __enter__(self) -> Self:
        before = self._logged()
        self._thread.start()
        give_up = time.monotonic() + 30
        while self._logged() == before:
            if time.monotonic() > give_up:
                self.__exit__()
                pytest.fail(f"the probe has sent nothing: {self.result}")
            time.sleep(0.5)
        return self

    def __exit__(self, *_: object) -> None:
        self._lasted = self.running
        if not self._host.run("touch %s", self._stop_file).succeeded:
            self._host.check_output("touch %s", self._stop_file)
        self._thread.join(timeout=240)
        assert "lanes" in self.result, f"the probe told nothing: {self.result}"

    def _logged(self) -> str:
        return str(self._at.run("stat -c %%s %s", self._log).stdout)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def lost_by_lane(self) -> dict[str, int]:
        lanes = self.result["lanes"]
        return {name: lane["lost"] for name, lane in lanes.items() if lane["lost"]}

    @property
    def failures(self) -> str:
        """As text: of anything else pytest shows but the first few words."""
        return json.dumps(self.result["failures"], indent=1)

    def assert_nothing_lost(self) -> None:
        assert self._lasted, "the probe ended before what it was to watch"
        lanes = self.result["lanes"]
        assert self.result["lost"] == 0, self.failures
        assert set(lanes) == {lane["name"] for lane in self.lanes}
        assert all(lane["answered"] > 0 for lane in lanes.values())


@pytest.fixture
def probing(host: Host, name: str) -> BackgroundProbe:
    return BackgroundProbe(host, name)


@pytest.fixture
def script(host: Host) -> Script:
    """Return a function that runs one of molecule/*.py on the host under test."""
    return lambda name, /, **options: run_script(host, name, **options)


@pytest.fixture
def under_load(host: Host) -> Callable[..., BackgroundLoad]:
    return lambda **options: BackgroundLoad(host, **options)


def slot_facts(host: Host, service: str) -> dict[str, str]:
    """Return which slot of a service is live, and each slot's state."""
    live = host.run(f"readlink /run/{service}/live.sock").stdout.strip()
    return {
        "live": live.removesuffix(".sock"),
        **{
            slot: host.run(
                f"systemctl is-active {service}@{slot}.service"
            ).stdout.strip()
            for slot in ("blue", "green")
        },
    }


@pytest.fixture
def slots(host: Host) -> Slots:
    return lambda service: slot_facts(host, service)
