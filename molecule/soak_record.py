"""What the soak has shown so far, as a file and as a page."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import (
    ENDS,
    LOST,
)
from soak_page import soak_page

from conftest import ROOT

REPORTS = ROOT / "reports"


def record(case: str, host: str, facts: dict[str, Any]) -> None:
    """Add a case to the report; an earlier one of that name is replaced."""
    path = REPORTS / "soak.json"
    REPORTS.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {"cases": []}
    cases = [each for each in known["cases"] if each["case"] != case]
    cases.append({"case": case, "host": host, **facts})
    path.write_text(json.dumps({"cases": cases}, indent=1) + "\n")
    (REPORTS / "soak.html").write_text(soak_page(cases))


def of_probe(result: dict[str, Any]) -> dict[str, Any]:
    """Return what a loss probe found, without its histograms."""
    return {
        "requests": result["requests"],
        "lost": result["lost"],
        "seconds": result["seconds"],
        "lanes": {
            name: {
                key: value
                for key, value in lane.items()
                if value and (key in ENDS or key.startswith("latency_p"))
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
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {"p50": round(statistics.median(values), 2), "p95": round(cuts[-1], 2)}


def start_anew() -> None:
    """Forget what an earlier soak has shown."""
    for name in ("soak.json", "soak.html"):
        Path(REPORTS, name).unlink(missing_ok=True)
