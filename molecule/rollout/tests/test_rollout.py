"""A fleet of three: a release that reaches all, and what stops one on its way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from faults import PROGRAM

from conftest import (
    HOSTS,
    INVENTORIES,
    ROOT,
    BackgroundProbe,
    Run,
    connect,
    run_ansible,
    run_module,
    served_version,
)

FLEET = list(HOSTS)
WINDOW_S = 60
SETTINGS: dict[str, Any] = {
    "fastapi_rollout_hosts": "molecule",
    "fastapi_rollout_soak_s": 3,
    "fastapi_rollout_window_s": WINDOW_S,
    "fastapi_rollout_command_timeout_s": 40,
    "fastapi_rollout_waves": ["1"],
}
# Only those requests are right that find the version which the test deployed last.
LANES = [
    {
        "name": "version",
        "url": "http://127.0.0.1/",
        "headers": {"Host": "alpha.test"},
        "expected_text": '"version":"good',
    }
]

Roll = Callable[..., Run]


def command_line(**variables: object) -> list[str]:
    return [
        str(Path(sys.executable).parent / "ansible-playbook"),
        *INVENTORIES,
        f"--extra-vars={json.dumps({**SETTINGS, **variables})}",
        "playbooks/rollout.yml",
    ]


def release(version: str) -> dict[str, Any]:
    return {"fastapi_service_environment": {"APP_VERSION": version}}


def versions() -> dict[str, str]:
    """Return what each host's visitors get."""
    return {name: served_version(connect(name)) for name in FLEET}


def all_run(version: str) -> dict[str, str]:
    return dict.fromkeys(FLEET, version)


def status(name: str) -> dict[str, Any]:
    said = connect(name).check_output("%s status --json", PROGRAM)
    return dict(json.loads(said))


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


@pytest.fixture
def roll(reports: Path) -> Roll:
    """Return a function that rolls out to the fleet."""

    def run(**variables: object) -> Run:
        argv = command_line(fastapi_rollout_reports_dir=str(reports), **variables)
        done, report = run_ansible(argv, timeout_s=900)
        return Run(done.returncode, report, done.stdout + done.stderr)

    return run


def events(reports: Path) -> list[dict[str, Any]]:
    """Return all that the latest journal says."""
    latest = max((reports / "rollouts").glob("*.jsonl"))
    return [json.loads(line) for line in latest.read_text().splitlines()]


@pytest.fixture
def good(roll: Roll) -> str:
    """Have the whole fleet on one good version; return it."""
    run = roll(**release("good 1"))
    assert run.status == 0, run.output
    assert versions() == all_run("good 1")
    return "good 1"


def test_a_good_release_reaches_all_and_loses_nothing(
    roll: Roll, good: str, reports: Path
) -> None:
    probes = [BackgroundProbe(connect(name), name) for name in FLEET]
    with ExitStack() as stack:
        for probe in probes:
            stack.enter_context(probe)
        run = roll(**release("good 2"))
    assert run.status == 0, run.output
    for probe in probes:
        probe.assert_nothing_lost()
    assert versions() == all_run("good 2")
    told = events(reports)
    waves = next(each["waves"] for each in told if each["event"] == "plan")
    assert waves == [[name] for name in FLEET]
    promoted = [each["hosts"] for each in told if each["event"] == "promoted"]
    assert promoted == waves
    again = roll(**release("good 2"))
    assert again.status == 0, again.output
    assert {again.stats(name)["changed"] for name in FLEET} == {0}


def test_a_release_that_answers_wrong_stops_at_the_canary(
    roll: Roll, good: str, reports: Path
) -> None:
    run = roll(
        fastapi_rollout_gates=["probe"],
        fastapi_rollout_lanes=LANES,
        **release("bad"),
    )
    assert run.status != 0
    assert "STOPPED in wave 1 of 3" in run.output
    assert "requests lost" in run.output
    assert versions() == all_run(good)
    begun = {each["host"] for each in events(reports) if each["event"] == "deployed"}
    assert begun == {FLEET[0]}
    assert [each["verdict"] for each in status(FLEET[0])["history"]][:2] == [
        "good",
        "bad",
    ]


def test_a_release_that_does_not_start_stops_at_the_canary(
    roll: Roll, good: str
) -> None:
    run = roll(fastapi_service_app="keepalive_demo.missing:app")
    assert run.status != 0
    assert f"{FLEET[0]} could not be deployed to" in run.output
    assert versions() == all_run(good)


def test_who_was_promoted_comes_back_as_well(roll: Roll, good: str) -> None:
    run = roll(
        fastapi_rollout_gates=["command"],
        fastapi_rollout_command=["sh", "-c", "test $ROLLOUT_WAVE = 1"],
        **release("bad"),
    )
    assert run.status != 0
    assert "STOPPED in wave 2 of 3" in run.output
    assert versions() == all_run(good)
    assert {name: status(name)["trial"] for name in FLEET} == {
        name: {} for name in FLEET
    }


def test_in_doubt_it_stops(roll: Roll, good: str) -> None:
    run = roll(
        fastapi_rollout_gates=["command"],
        fastapi_rollout_command=["sh", "-c", "exit 2"],
        **release("bad"),
    )
    assert run.status != 0
    assert "gate command: exit status 2" in run.output
    assert versions() == all_run(good)


@pytest.fixture
def gone() -> Iterator[str]:
    """Have a host that cannot be reached, and serves on."""
    name = FLEET[-1]
    host = connect(name)
    host.check_output("systemd-run --on-active=100 systemctl start ssh")
    host.run("systemctl stop ssh ssh.socket; pkill sshd")
    yield name
    time.sleep(110)


def test_a_host_that_is_gone_from_the_start(roll: Roll, good: str, gone: str) -> None:
    run = roll(**release("bad"))
    assert run.status != 0
    assert f"No host was touched. Unreachable: {gone}" in run.output


def test_a_second_rollout_is_refused(roll: Roll, good: str) -> None:
    claim = {"name": "alpha", "holder": "somebody else"}
    run_module(FLEET[1], "fastapi_claim", **claim)
    try:
        run = roll(**release("bad"))
    finally:
        run_module(FLEET[1], "fastapi_claim", state="absent", **claim)
    assert run.status != 0
    assert "is being rolled out to this host by somebody else" in run.output
    assert versions() == all_run(good)
    again = roll(**release(good))
    assert again.status == 0, again.output


def test_a_controller_that_is_killed(roll: Roll, good: str, reports: Path) -> None:
    argv = command_line(
        fastapi_rollout_reports_dir=str(reports),
        fastapi_rollout_gates=["command"],
        fastapi_rollout_command=["sleep", "35"],
        **release("good 3"),
    )
    env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    with (reports.parent / "log").open("w") as log:
        controller = subprocess.Popen(
            argv, cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True
        )
    begun = time.monotonic()
    while not status(FLEET[0])["trial"] or versions()[FLEET[0]] != "good 3":
        assert time.monotonic() - begun < 120
        time.sleep(1)
    os.killpg(controller.pid, signal.SIGKILL)
    controller.wait()
    # What was under way on the host may have begun the window anew.
    time.sleep(WINDOW_S + 5)
    assert versions() == all_run(good)
    assert status(FLEET[0])["trial"] == {}
    run = roll(**release("good 3"))
    assert run.status == 0, run.output
    assert versions() == all_run("good 3")
    assert [each["event"] for each in events(reports)].count("begin") == 2
