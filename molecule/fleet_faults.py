"""What is done to a rollout, in which of its waves, and what it has to say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import SHORT
from rolling import Fleet, release

from conftest import ROOT, Host, connect, restart, without_ssh

# The waves of nine hosts in three zones, of which no two of one zone change at once.
SETTINGS: dict[str, Any] = {
    "fastapi_rollout_canaries": ["a1"],
    "fastapi_rollout_waves": ["2", "3"],
    "fastapi_rollout_domain": "zone",
    "fastapi_rollout_soak_s": 3,
    "fastapi_rollout_window_s": 60,
}
WAVES = [["a1"], ["a2", "b1"], ["a3", "b2", "c1"], ["b3", "c2"], ["c3"]]
FLEET = Fleet(
    [name for wave in WAVES for name in wave],
    "services",
    ROOT / "reports/fleet",
    SETTINGS,
)
PLACES = {"canary": 0, "first wave": 1, "middle wave": 2, "last wave": 4}
GOOD_APP = "keepalive_demo.main:app"
LANES = [
    {
        "name": "version",
        "url": "http://127.0.0.1/",
        "headers": {"Host": "alpha.test"},
        "expected_text": '"version":"good',
    }
]

Variables = dict[str, Any]
Make = Callable[[list[str]], Variables]
Inject = Callable[[int], None]


@dataclass(frozen=True)
class RolloutFault:
    """``make`` gives the variables, from the hosts of the wave that shall fail.

    ``inject`` is run beside the rollout once the wave before has passed. ``says`` is
    what the output has to tell.
    """

    name: str
    wave: int
    make: Make
    says: str
    inject: Inject | None = None


def only_on(hosts: list[str], there: object, elsewhere: object) -> str:
    """Return a template that has one value on some hosts and another on the rest."""
    return f"{{{{ {there!r} if inventory_hostname in {hosts!r} else {elsewhere!r} }}}}"


def bad_app(app: str, **more: object) -> Make:
    def make(hosts: list[str]) -> Variables:
        return {"fastapi_service_app": only_on(hosts, app, GOOD_APP), **more}

    return make


def wrong_answer(hosts: list[str]) -> Variables:
    version = only_on(hosts, "bad", "good, but not to be")
    return {
        **release(version),
        "fastapi_rollout_gates": ["probe"],
        "fastapi_rollout_lanes": LANES,
    }


def another_version(_hosts: list[str]) -> Variables:
    return release("not to be")


def no_keepalive(hosts: list[str]) -> Variables:
    return {"fastapi_service_upstream_keepalive": only_on(hosts, "no", "yes")}


def command(script: str, wave: int, limit_s: int = 5) -> Make:
    """Have a command say this of the wave, and nothing against those before."""
    text = f"test $ROLLOUT_WAVE != {wave + 1} || {script}"

    def make(hosts: list[str]) -> Variables:
        return {
            **another_version(hosts),
            "fastapi_rollout_gates": ["command"],
            "fastapi_rollout_command": ["sh", "-c", text],
            "fastapi_rollout_command_timeout_s": limit_s,
        }

    return make


def full_disk(hosts: list[str]) -> Variables:
    small, usual = "/srv/small/releases", "/srv/alpha/releases"
    return {
        "fastapi_service_releases_dir": only_on(hosts, small, usual),
        "fastapi_rollout_min_free_mb": 0,
    }


def cut_off(host: Host, seconds: int) -> None:
    """Take a host off the network for so long."""
    script = (
        "route=$(ip route show default); ip link set eth0 down; "
        f"sleep {seconds}; ip link set eth0 up; ip route add $route"
    )
    host.check_output("systemd-run --collect sh -c %s", script)


def loses_ssh(wave: int) -> None:
    without_ssh(connect(WAVES[wave][0]), 80)


def loses_network(wave: int) -> None:
    cut_off(connect(WAVES[wave][0]), 80)


def loses_network_as_it_is_judged(wave: int) -> None:
    """Cut it off once it is on trial; its command gate waits for that."""
    wait_for_trial(WAVES[wave][0])
    cut_off(connect(WAVES[wave][0]), 80)


def reboots(wave: int) -> None:
    wait_for_trial(WAVES[wave][0])
    restart(WAVES[wave][0])


def wait_for_trial(name: str, limit_s: float = 120) -> None:
    give_up = time.monotonic() + limit_s
    while not FLEET.status(name)["trial"]:
        assert time.monotonic() < give_up, f"{name} has nothing on trial"
        time.sleep(0.3)


def until(
    event: str, wave: int, earlier: Path | None = None, limit_s: float = 600
) -> None:
    """Wait until a journal later than ``earlier`` has such an event of a wave."""
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        told = FLEET.events() if FLEET.journal != earlier else []
        if any(
            each["event"] == event and each.get("wave", wave) == wave for each in told
        ):
            return
        time.sleep(0.2)
    raise TimeoutError(event)


@contextmanager
def beside(fault: RolloutFault) -> Iterator[None]:
    """Inject the fault when the wave before its own has passed."""
    earlier = FLEET.journal

    def wait_and_inject() -> None:
        assert fault.inject
        if fault.wave:
            until("promoted", fault.wave - 1, earlier)
        else:
            until("plan", 0, earlier)
        fault.inject(fault.wave)

    if not fault.inject:
        yield
        return
    with ThreadPoolExecutor() as pool:
        injected = pool.submit(wait_and_inject)
        yield
        injected.result()


def everywhere(name: str, make: Make, says: str) -> list[RolloutFault]:
    return [
        RolloutFault(f"{name}: {place}", wave, make, says)
        for place, wave in PLACES.items()
    ]


CRASHED = "ended while it started"
FAULTS = [
    *everywhere("fails at import", bad_app("unimportable:app"), CRASHED),
    *everywhere("fails at start-up", bad_app("bad:lifespan_raises"), CRASHED),
    *everywhere(
        "answers its probe with 500", bad_app("bad:answers_500", **SHORT), "status 500"
    ),
    *everywhere(
        "never answers its probe",
        bad_app("bad:never_answers", **SHORT),
        "did not become ready",
    ),
    *everywhere("answers wrong", wrong_answer, "requests lost"),
    *everywhere("keeps no connections", no_keepalive, "gate findings"),
    *everywhere("disk full", full_disk, "disk is full"),
    *[
        RolloutFault(
            f"command {what}: {place}", wave, command(script, wave), "gate command"
        )
        for place, wave in PLACES.items()
        for what, script in (
            ("fails", "exit 1"),
            ("cannot tell", "exit 2"),
            ("hangs", "sleep 60"),
        )
    ],
    *[
        RolloutFault(f"{what}: {place}", wave, another_version, "", inject)
        for place, wave in PLACES.items()
        for what, inject in (
            ("loses sshd", loses_ssh),
            ("loses its network", loses_network),
            ("reboots", reboots),
        )
    ],
    *[
        RolloutFault(
            f"loses its network as it is judged: {place}",
            wave,
            command("sleep 20", wave, limit_s=40),
            "",
            loses_network_as_it_is_judged,
        )
        for place, wave in PLACES.items()
    ],
]
