"""What is done to a rollout, in which of its waves, and what it has to say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults import SHORT
from rolling import Fleet, release

from conftest import ROOT, Host, connect, is_reached, restart, without_ssh

# The waves of nine hosts in three zones, of which no two of one zone change at once.
SETTINGS: dict[str, Any] = {
    "fastapi_rollout_canaries": ["a1"],
    "fastapi_rollout_waves": ["2", "3"],
    "fastapi_rollout_domain": "zone",
    "fastapi_rollout_soak_s": 3,
    "fastapi_rollout_window_s": 60,
}
WAVES = [["a1"], ["a2", "b1"], ["a3", "b2", "c1"], ["b3", "c2"], ["c3"]]
# What the command of a wave makes once that wave is judged.
JUDGED = ROOT / ".cache/fleet-judged"
FLEET = Fleet(
    [name for wave in WAVES for name in wave],
    "services",
    ROOT / "reports/fleet",
    SETTINGS,
)
PLACES = {"canary": 0, "first wave": 1, "middle wave": 2, "last wave": 4}
GOOD_APP = "keepalive_demo.main:app"
USUAL = {"fastapi_service_start_timeout_s": 30, "fastapi_service_request_timeout_s": 5}
# Of an application that has to start on a busy computer, and then answers wrong.
PATIENT = {**SHORT, "fastapi_service_start_timeout_s": 15}
# Longer than SSH tries: five times 15 s.
CUT_S = 100
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


def bad_app(app: str, **seconds: int) -> Make:
    """Have another application on those hosts, with other budgets there."""

    def make(hosts: list[str]) -> Variables:
        budgets = {
            name: only_on(hosts, number, USUAL[name])
            for name, number in seconds.items()
        }
        return {"fastapi_service_app": only_on(hosts, app, GOOD_APP), **budgets}

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


def cut_off(host: Host) -> None:
    """Take a host off the network for a time, from in a moment."""
    script = (
        "sleep 1; route=$(ip route show default) && ip link set eth0 down && "
        f"sleep {CUT_S}; ip link set eth0 up; ip route add $route"
    )
    host.check_output("systemd-run --collect sh -c %s", script)
    time.sleep(2)
    assert not is_reached(host), "its network is still there"


def loses_ssh(wave: int) -> None:
    without_ssh(connect(WAVES[wave][0]), 80)


def loses_network(wave: int) -> None:
    cut_off(connect(WAVES[wave][0]))


def loses_network_as_it_is_judged(wave: int) -> None:
    """Cut it off while the command gate looks at it."""
    until(JUDGED.exists, f"wave {wave + 1} to be judged")
    cut_off(connect(WAVES[wave][0]))


def reboots_before_its_switch(wave: int) -> None:
    """Restart it as its trial begins, which is before the new slot starts."""
    until(lambda: bool(FLEET.status(WAVES[wave][0])["trial"]), "a trial")
    restart(WAVES[wave][0])


def reboots_as_it_is_judged(wave: int) -> None:
    until(JUDGED.exists, f"wave {wave + 1} to be judged")
    restart(WAVES[wave][0])


def has_come_to(event: str, wave: int, earlier: Path | None) -> bool:
    """Tell whether a journal later than ``earlier`` has such an event of a wave."""
    told = FLEET.events() if FLEET.journal != earlier else []
    return any(
        each["event"] == event and each.get("wave", wave) == wave for each in told
    )


# Set when a rollout has ended, so that nothing waits for it any longer.
_OVER = threading.Event()


def until(so: Callable[[], bool], what: str, limit_s: float = 600) -> None:
    give_up = time.monotonic() + limit_s
    while not so():
        if _OVER.is_set() or time.monotonic() > give_up:
            raise TimeoutError(f"waited for {what}")
        time.sleep(0.2)


@contextmanager
def beside(fault: RolloutFault) -> Iterator[None]:
    """Inject the fault when the wave before its own has passed."""
    if not fault.inject:
        yield
        return
    inject, earlier = fault.inject, FLEET.journal
    JUDGED.unlink(missing_ok=True)
    event, wave = ("promoted", fault.wave - 1) if fault.wave else ("plan", 0)

    def wait_and_inject() -> None:
        until(lambda: has_come_to(event, wave, earlier), f"{event} of wave {wave + 1}")
        inject(fault.wave)

    with ThreadPoolExecutor() as pool:
        injected = pool.submit(wait_and_inject)
        try:
            yield
        finally:
            _OVER.set()
            injected.exception()
            _OVER.clear()
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
        "answers its probe with 500",
        bad_app("bad:answers_500", **PATIENT),
        "status 500",
    ),
    *everywhere(
        "never answers its probe",
        bad_app("bad:never_answers", **SHORT),
        "did not become ready",
    ),
    *everywhere("answers wrong", wrong_answer, "gate probe"),
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
        RolloutFault(f"{what}: {place}", wave, another_version, says, inject)
        for place, wave in PLACES.items()
        for what, inject, says in (
            ("loses sshd", loses_ssh, "unreachable: "),
            ("loses its network", loses_network, "unreachable: "),
            # It may be back before it is asked for the next thing.
            ("reboots before its switch", reboots_before_its_switch, ""),
        )
    ],
    *[
        RolloutFault(
            f"{what} as it is judged: {place}",
            wave,
            command(f"{{ touch {JUDGED}; sleep 15; }}", wave, limit_s=30),
            "could not be confirmed",
            inject,
        )
        for place, wave in PLACES.items()
        for what, inject in (
            ("loses its network", loses_network_as_it_is_judged),
            ("reboots", reboots_as_it_is_judged),
        )
    ],
]
