"""The soak's findings as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import LOST
from ansible_collections.keepalive.fastapi.plugins.plugin_utils import page_svg
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).resolve().parent
HEIGHT_PT = 150
Case = dict[str, Any]


class Table(NamedTuple):
    heads: list[str]
    rows: list[list[str]]


def soak_page(cases: list[Case]) -> str:
    """Return the page of all cases so far."""
    loader = FileSystemLoader([HERE, HERE.parent / "plugins/plugin_utils"])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    by_name = {each["case"]: each for each in cases}
    return environment.get_template("soak.html.j2").render(
        sentences=list(sentences(by_name)),
        plots=list(plots(by_name)),
        tables=[
            ("Load", loads(cases)),
            ("Time of a switch (s)", switches(by_name)),
            ("Idle race", races(cases)),
            ("Faults under load", faults(cases)),
            ("Clients that stay", held(by_name)),
        ],
    )


def sentences(cases: dict[str, Case]) -> Iterator[tuple[str, str]]:
    if "switches" in cases:
        ours = cases["switches"]
        yield (
            "worse" if ours["lost"] else "better",
            (
                f"{ours['switches']} switches under {ours['requests']:,} requests: "
                f"{ours['lost']:,} lost."
            ),
        )
    if "as usual" in cases:
        usual = cases["as usual"]
        yield (
            "worse",
            (
                f"Beside it, {usual['events']} reloads (HUP) and restarts under "
                f"{usual['requests']:,} requests: {usual['lost']:,} lost."
            ),
        )
    all_faults = [each for name, each in cases.items() if name.startswith("fault: ")]
    others = [each for each in all_faults if not each["may_lose"]]
    failed = [each for each in all_faults if "failed" in each]
    if others:
        lost = sum(case.get("lost", 0) for case in others)
        yield (
            "worse" if lost or failed else "better",
            (
                f"{len(others)} faults that may lose nothing: {lost} requests lost. "
                f"{len(all_faults) - len(others)} more have to lose some: what a "
                "killed process had in its hands, or what came while nothing could "
                f"serve. {len(failed)} did not end as they should."
            ),
        )


def plots(cases: dict[str, Case]) -> Iterator[tuple[str, str, Markup]]:
    for name, head in (("switches", "This collection"), ("as usual", "As usual")):
        if name in cases:
            hint = (
                "Requests per second that were answered, and below those lost. Each "
                "thin line is a switch."
            )
            svg = page_svg.draw(
                name.replace(" ", "-"),
                head,
                f"{cases[name]['lost']} of {cases[name]['requests']} requests lost.",
                HEIGHT_PT,
                partial(draw_timeline, case=cases[name]),
            )
            yield head, hint, Markup(svg)


def draw_timeline(figure: Any, case: Case) -> None:
    """Draw answered and lost requests per second, one above the other."""
    interval_s = case["timeline"]["interval_s"]
    answered, lost = totals(case)
    minutes = [place * interval_s / 60 for place in range(len(answered))]
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[2, 1])
    upper.plot(
        minutes,
        [count / interval_s for count in answered],
        color=page_svg.arm_colour(0),
        linewidth=1,
    )
    upper.set_ylabel("answered/s")
    lower.bar(
        minutes,
        lost,
        width=max(interval_s / 60, minutes[-1] / 150),
        color=page_svg.arm_colour(1),
    )
    lower.set_ylabel("lost")
    lower.set_ylim(0, max(*lost, 1))
    lower.set_xlabel("minutes")
    for axes in (upper, lower):
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
    events = case["events"] if isinstance(case["events"], list) else []
    for each in events:
        upper.axvline(each["at_s"] / 60, color=page_svg.MUTED, linewidth=0.2)


def totals(case: Case) -> tuple[list[int], list[int]]:
    """Return how many were answered and lost in each interval, of all lanes."""
    lanes = case["timeline"]["lanes"].values()
    length = max(len(counts) for lane in lanes for counts in lane.values())
    answered, lost = [0] * length, [0] * length
    for lane in lanes:
        for kind, counts in lane.items():
            row = lost if kind in LOST else answered
            for place, count in enumerate(counts):
                row[place] += count
    return answered, lost


def lost_of(lanes: dict[str, dict[str, Any]]) -> str:
    """Say what was lost, by lane and kind."""
    said = [
        f"{name}: {lane[kind]} {kind.replace('_', ' ')}"
        for name, lane in lanes.items()
        for kind in LOST
        if kind in lane
    ]
    return ", ".join(said) or "nothing"


def loads(cases: list[Case]) -> Table:
    heads = ["case", "host", "lane", "answered", "late", "p50 ms", "p99 ms"]
    heads += ["sent late by, p99 ms", "lost"]
    rows = [
        [
            case["case"],
            case["host"],
            name,
            f"{lane.get('answered', 0):,}",
            f"{lane.get('late', 0):,}",
            str(lane.get("latency_p50_ms", "")),
            str(lane.get("latency_p99_ms", "")),
            str(lane.get("lag_p99_ms", "")),
            lost_of({name: lane}),
        ]
        for case in cases
        if "lanes" in case and not case["case"].startswith("fault: ")
        for name, lane in case["lanes"].items()
    ]
    return Table(heads, rows)


def switches(cases: dict[str, Case]) -> Table:
    case = cases.get("switches", {})
    rows = [
        [what, str(case[key]["p50"]), str(case[key]["p95"])]
        for key, what in (
            ("seconds_to_ready", "start to first expected answer"),
            ("seconds_to_stopped", "flip to old slot stopped"),
        )
        if key in case
    ]
    rows += [
        [f"whole {kind}", str(took["p50"]), str(took["p95"])]
        for kind, took in sorted(case.get("took_s", {}).items())
    ]
    return Table(["", "p50", "p95"], rows)


def races(cases: list[Case]) -> Table:
    rows = [
        [case["case"].partition(", ")[2], str(case["tries"]), str(case["lost"])]
        for case in cases
        if "tries" in case
    ]
    return Table(["", "tries", "lost"], rows)


def step_of(task: str) -> str:
    """Return a role's step, such as `switch`, from a task's whole name."""
    return task.rpartition(" : ")[2].partition(" | ")[0]


def faults(cases: list[Case]) -> Table:
    rows = [
        [
            case["case"].partition(": ")[2],
            f"{case.get('requests', 0):,}",
            str(case.get("lost", "")),
            str(case.get("seconds_with_loss", "")),
            str(case.get("serves_again_s", "")),
            ", ".join(map(step_of, case["mended_by"])) or "nothing to mend",
            case.get("failed") or lost_of(case.get("lanes", {})),
        ]
        for case in cases
        if case["case"].startswith("fault: ")
    ]
    heads = ["fault", "requests", "lost", "seconds with loss", "serves again (s)"]
    heads += ["mended by", "what"]
    return Table(heads, rows)


def held(cases: dict[str, Case]) -> Table:
    case = cases.get("held through a switch", {})
    rows = [[key, str(value)] for key, value in case.items() if "_" in key]
    return Table(["", "found"], rows)
