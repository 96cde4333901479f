"""Whatever is done to a rollout, the fleet ends on what was good."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from typing import Any

import pytest
from faults import copy_source, write_bad_apps
from fleet_faults import FAULTS, FLEET, WAVES, RolloutFault, beside
from rolling import release
from soak_record import add_case

from conftest import connect, run_playbook

GOOD = "good"
SMALL_DISK = (
    "mkdir -p /srv/small && { mountpoint -q /srv/small || "
    "mount -t tmpfs -o size=20m tmpfs /srv/small; }"
)
# A host that nobody reaches is told of by itself, once it is reached again.
LIMIT_S = 150


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Have every host hold a release with bad applications beside the good one."""
    folder = tmp_path_factory.mktemp("fleet") / "source"
    copy_source(folder)
    write_bad_apps(folder)
    built = run_playbook(
        "site.yml",
        "services",
        "--tags",
        "fastapi_service_release",
        fastapi_service_source_path=str(folder),
    )
    assert built.status == 0, built.why
    for name in FLEET.hosts:
        connect(name).check_output(SMALL_DISK)
    return str(folder)


@pytest.fixture
def good(source: str) -> None:
    """Have the fleet on what is good, whatever an earlier fault has left."""
    if not settled(limit_s=0):
        run = FLEET.roll(**release(GOOD), fastapi_service_source_path=source)
        assert run.status == 0, run.why


def verdict() -> datetime | None:
    """Return when it was decided: a wave judged, or hosts of it not confirmed."""
    at = [
        datetime.fromisoformat(each["at"])
        for each in FLEET.events()
        if each["event"] == "judged" or each.get("lost")
    ]
    return at[-1] if at else None


def seconds_back() -> float:
    """Return how long it took from the verdict until all that could had gone back."""
    decided = verdict()
    ended = [each["at"] for each in FLEET.events() if each["event"] == "result"]
    if decided is None or not ended:
        return 0.0
    back = datetime.fromisoformat(ended[-1]) - decided
    return round(back.total_seconds(), 1)


def seconds_back_by_host(hosts: set[str]) -> dict[str, float]:
    """Return for each host how long after the verdict its live link was last turned.

    None is below 0: one that had gone back before was back in no time.
    """
    decided = verdict()
    if decided is None:
        return {}
    back: dict[str, float] = {}
    for name in sorted(hosts):
        turned = connect(name).check_output("stat -c %.Y /run/alpha/live.sock")
        back[name] = round(max(float(turned) - decided.timestamp(), 0.0), 1)
    return back


def settled(limit_s: float = LIMIT_S) -> bool:
    """Wait until every host is reached, serves what is good, and tries nothing."""
    give_up = time.monotonic() + limit_s
    while True:
        # Not reached, or in the middle of a restart.
        with contextlib.suppress(AssertionError, RuntimeError, ValueError):
            if FLEET.all_run(GOOD) and not FLEET.on_trial():
                return True
        if time.monotonic() > give_up:
            return False
        time.sleep(2)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fleet_ends_on_what_was_good(
    source: str, good: None, fault: RolloutFault
) -> None:
    facts: dict[str, Any] = {"wave": fault.wave}
    stopped = f"STOPPED in wave {fault.wave + 1} of {len(WAVES)}"
    known = {**release(GOOD), "fastapi_service_source_path": source}
    try:
        with beside(fault):
            run = FLEET.roll(**{**known, **fault.make(WAVES[fault.wave])})
        ended = time.monotonic()
        began = {each["host"] for each in FLEET.events() if each["event"] == "deployed"}
        facts.update(
            status=run.status,
            seconds_back=seconds_back(),
            deployed=sorted(began),
            settled=settled(),
            settled_after_s=round(time.monotonic() - ended, 1),
        )
        assert run.status != 0
        assert stopped in run.output, run.why
        assert fault.says in run.output, run.why
        assert facts["settled"], FLEET.versions()
        facts["seconds_back_by_host"] = seconds_back_by_host(began)
        assert began <= {name for wave in WAVES[: fault.wave + 1] for name in wave}
    except BaseException as error:
        facts["failed"] = repr(error)[:500]
        raise
    finally:
        add_case("fleet.json", f"fault: {fault.name}", facts)
