"""What the soak has shown so far, as a file and as a page."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
import traceback
from pathlib import Path
from typing import Any

from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import (
    ENDS,
    LOST,
)
from soak_page import soak_page

from conftest import ROOT

REPORTS = ROOT / "reports"
# The whole, so that what comes last is left out rather than the end of the run lost.
LIMIT_S = int(os.environ.get("SOAK_LIMIT_S", "9900"))
_BEGUN = time.monotonic()


def left_s() -> float:
    """Return how much of the soak's time is left (seconds)."""
    return LIMIT_S - (time.monotonic() - _BEGUN)


def record(case: str, host: str, facts: dict[str, Any]) -> None:
    """Add a case to the soak's report; an earlier one of that name is replaced."""
    cases = add_case("soak.json", case, {"host": host, **facts})
    try:
        write(REPORTS / "soak.html", soak_page(cases))
    except Exception:  # noqa: BLE001  # what was found must not be lost for its looks
        traceback.print_exc()


def add_case(name: str, case: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Add a case to one of the reports; return all that it has now."""
    path = REPORTS / name
    REPORTS.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {"cases": []}
    cases = [each for each in known["cases"] if each["case"] != case]
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    cases.append({"case": case, "recorded_at": at, "commit": commit(), **facts})
    text = json.dumps({"conditions": conditions(), "cases": cases}, indent=1)
    write(path, text + "\n")
    return cases


def recorded(case: str) -> dict[str, Any]:
    """Return what was recorded of a case."""
    cases = json.loads((REPORTS / "soak.json").read_text())["cases"]
    return next(dict(each) for each in cases if each["case"] == case)


def write(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def commit() -> str:
    """Return what was run."""
    argv = ["git", "rev-parse", "HEAD"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=True, text=True)
    return done.stdout.strip()


def conditions() -> dict[str, Any]:
    """Return what it was run on."""
    return {"cores": os.cpu_count(), "kernel": os.uname().release}


_KEPT = ("latency_p", "lag_p", "connections_")


def of_probe(result: dict[str, Any]) -> dict[str, Any]:
    """Return what a loss probe found, without its histograms."""
    return {
        "requests": result["requests"],
        "lost": result["lost"],
        "seconds": result["seconds"],
        "begun_at_s": result["begun_at_s"],
        "lanes": {
            name: {
                key: value
                for key, value in lane.items()
                if value and (key in ENDS or key.startswith(_KEPT))
            }
            for name, lane in result["lanes"].items()
        },
        "failures": result["failures"][:5],
        "timeline": result["timeline"],
    }


def seconds_with_loss(result: dict[str, Any]) -> int:
    """Return from the first to the last second in which a request was lost."""
    timeline = result["timeline"]
    at = [
        place
        for lane in timeline["lanes"].values()
        for kind, counts in lane.items()
        if kind in LOST
        for place, count in enumerate(counts)
        if count
    ]
    return (max(at) - min(at) + 1) * int(timeline["interval_s"]) if at else 0


def quantiles(values: list[float]) -> dict[str, float]:
    """Return the median and the 95th percentile."""
    if len(values) == 1:
        values = values * 2
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {"p50": round(statistics.median(values), 2), "p95": round(cuts[-1], 2)}
