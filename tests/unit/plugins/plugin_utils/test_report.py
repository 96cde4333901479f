# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from typing import Optional
from xml.etree import ElementTree as ET

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils import (
    page_svg,
    report_html,
    report_plots,
    report_words,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_markdown import (
    markdown_report,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.report_table import (
    COLUMNS,
    terminal_table,
)
from ansible_collections.keepalive.fastapi.tests.unit.plugins.plugin_utils import (
    benchmark_study,
)

Study = benchmark_study.Study

SVG = "{http://www.w3.org/2000/svg}"
HEAD, EFFECT = "effect (95 % interval)", "+23.2 % (+8.4 to +38.4)"
EVIL = '<script>alert(1)</script> & "co" | *x*'


class Page(HTMLParser):
    """What a page holds: its ids, its addresses, its text, and unclosed elements."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "use", "rect"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Optional[str]]]) -> None:
        self.tags[tag] += 1
        self.ids.update(value or "" for name, value in attrs if name == "id")
        self.links += [v or "" for k, v in attrs if k in {"href", "src", "xlink:href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(
        self, tag: str, attrs: list[tuple[str, Optional[str]]]
    ) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def without_reuse(study: Study) -> None:
    for run in study.runs:
        run["reuse"] = None


def test_the_verdict_is_a_sentence(study: Study) -> None:
    assert report_words.verdict_sentences(study.build()) == [
        (
            "better",
            (
                "Keepalive between client and nginx, on instead of off: +23.2 % "
                "requests/s on async items, 100 connections (95 % interval +8.4 % to "
                "+38.4 %, 8 pairs): better."
            ),
        )
    ]


def test_an_invalid_verdict_gives_its_reasons(study: Study) -> None:
    del study.runs[-1]
    ((verdict, sentence),) = report_words.verdict_sentences(study.build())
    assert verdict == "invalid"
    assert sentence.endswith(
        "invalid on async items, 100 connections: 7 valid pairs; at least 8 are needed."
    )


def test_several_hosts_share_a_sentence(study: Study) -> None:
    study.add_host("web2", ratio=0.8)
    study.add_host("web3", ratio=0.5)
    assert report_words.verdict_sentences(study.build()) == [
        (
            "mixed",
            (
                "Keepalive between client and nginx, on instead of off: -38.4 % (web3) "
                "to +23.2 % (web1) requests/s on async items, 100 connections, 3 "
                "hosts: better on 1, worse on 1, inconclusive on 1."
            ),
        )
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, report_words.ABSENT),
        (0.0004761, "0.000476"),
        (0.0, "0"),
        (1.0, "1.00"),
        (33.842, "33.8"),
        (688.746, "689"),
        (12345.6, "12346"),
    ],
)
def test_figures_have_three_digits(value: Optional[float], told: str) -> None:
    assert report_words.figure(value) == told


@pytest.mark.parametrize(
    ("ratio", "told"), [(1.112, "+11.2 %"), (0.9, "-10.0 %"), (0.9999, "0.0 %")]
)
def test_a_ratio_is_told_as_a_change(ratio: float, told: str) -> None:
    assert report_words.percent_change(ratio) == told


def test_units_of_conditions_follow_their_value(study: Study) -> None:
    study.hosts["web1"]["conditions"] = {
        "duration_s": 10,
        "nginx_version": "1.26.3",
        "cpus": [0, 1],
        "http2": False,
        "governor": None,
    }
    (line,) = report_words.conditions_lines(study.build())
    assert line == (
        "Conditions of web1: duration 10 s, nginx version 1.26.3, cpus 0, 1, http2 no, "
        "governor {0}.".format(report_words.ABSENT)
    )


def test_cautions_tell_what_the_generator_took(study: Study) -> None:
    said = " ".join(report_words.cautions(study.build()))
    assert "Measured on one host, web1; others may differ." in said
    assert "took 22 % of the CPU time" in said
    for run in study.runs:
        run.update(cpu_generator_s=None)
    study.runs[0]["reuse"]["client"]["agree"] = False
    said = " ".join(report_words.cautions(study.build()))
    assert "generator" not in said
    assert "In 1 of 16 runs nginx and the kernel counted different numbers" in said


def test_many_comparisons_are_counted_by_arm(study: Study) -> None:
    result = study.build()
    comparisons = result["hosts"]["web1"]["comparisons"]
    worse = comparisons[0].copy()
    worse["verdict"] = "worse"
    comparisons.extend([comparisons[0], worse, worse, worse])
    said = " ".join(report_words.cautions(result))
    assert "5 comparisons: by chance alone up to 0.3 of them" in said
    assert "on: 2 better, 3 worse." in said


def test_print_has_a_true_minus_and_keeps_units_with_numbers() -> None:
    said = report_words.typeset("web-1: -1.4 % (-13.3 to +10.7), 10 s of 99.9 % ok")
    assert said.replace("\N{NO-BREAK SPACE}", "_").replace("\N{MINUS SIGN}", "~") == (
        "web-1: ~1.4_% (~13.3 to +10.7), 10_s of 99.9_% ok"
    )


def test_the_terminal_table(study: Study) -> None:
    lines = terminal_table(study.build()).splitlines()
    assert lines[3] == "async items, 100 connections on web1, requests/s"
    assert [re.split(r" {2,}", line.strip()) for line in lines[4:7]] == [
        ["arm", "runs", "average", "range", "p99 ms", "diff.", HEAD, "verdict"],
        ["off", "8", "2348.7", "1938 to 3135", "153", "base"],
        ["on", "8", "2893.8", "2232 to 3819", "270", "+23.2 %", EFFECT, "better"],
    ]
    assert lines[8].startswith("Conditions of web1: cores 2, nginx version 1.26.3")


def test_the_terminal_table_fits(study: Study) -> None:
    study.rename(off="keepalive 0 and HTTP/1.0", on="keepalive 32 and HTTP/1.1")
    for run in study.runs:
        run["requests_per_s"] *= 10
    study.add_host("a-host-with-a-long-name.in-a-domain.example.com")
    study.add_host("web2", ratio=1)
    for run in study.hosts["web2"]["runs"]:
        run["requests_per_s"] *= 0.82 if run["arm"].endswith("1.1") else 1
    study.runs[0].update(valid=False, invalid_reasons=["because " * 30])
    lines = terminal_table(study.build()).splitlines()
    assert max(map(len, lines)) <= COLUMNS


def test_markdown_has_every_run(study: Study) -> None:
    said = markdown_report(study.build())
    assert "| case | off: runs | off: average | on: runs | on: average | diff" in said
    for run in study.runs:
        assert report_words.rate(run["requests_per_s"]) in said
    assert "| +23.2 % | +23.2 % (+8.4 to +38.4) | better |" in said


def test_markdown_tells_more_arms_row_by_row(study: Study) -> None:
    study.cases[0]["arms"].append("also")
    said = markdown_report(study.build())
    assert "| case | arm | runs | average | difference |" in said
    assert "also: 0 valid pairs; at least 8 are needed" in said


def test_markdown_tables_stay_whole(study: Study) -> None:
    study.rename(on=EVIL)
    for line in markdown_report(study.build()).splitlines():
        if line.startswith("| async"):
            assert re.search(r"[^\\]<script", line) is None
            assert len(re.findall(r"(?<!\\)\|", line)) in {9, 13, 8}


def test_the_page_needs_nothing_else(study: Study) -> None:
    study.add_host("web2", ratio=0.8)
    page = report_html.html_report(study.build())
    found = Page(page)
    assert not found.open
    assert not {"script", "link", "img", "iframe"} & set(found.tags)
    assert all(link.startswith("#") for link in found.links)
    assert "@import" not in page
    assert "url(http" not in page
    assert "w3.org/2000/svg" in page  # the only address, and not asked


def test_ids_of_the_page_are_unique_and_known(study: Study) -> None:
    study.add_host("web2")
    found = Page(report_html.html_report(study.build()))
    assert [name for name, times in found.ids.items() if times > 1] == []
    assert {link[1:] for link in found.links} <= set(found.ids)


def test_the_page_begins_with_the_verdict(study: Study) -> None:
    said = "".join(Page(report_html.html_report(study.build())).text)
    verdict = said.index("+23.2\xa0% requests/s on async items")
    assert verdict < said.index("Effect on requests per second")
    assert verdict < said.index("Conditions")


def test_text_of_a_study_stays_text(study: Study) -> None:
    study.rename(on=EVIL)
    study.title = EVIL
    study.hosts[EVIL] = study.hosts.pop("web1")
    study.hosts[EVIL]["conditions"][EVIL] = EVIL
    study.hosts[EVIL]["runs"][0].update(valid=False, invalid_reasons=[EVIL])
    page = report_html.html_report(study.build())
    assert "<script" not in page
    assert EVIL in "".join(Page(page).text)


def test_figures_are_text_in_the_colours_of_the_page(study: Study) -> None:
    result = study.build()
    numbers = report_plots.arm_numbers(result)
    arms = result["hosts"]["web1"]["arms"]
    for svg in (
        report_plots.forest_plot("a", result, numbers),
        report_plots.latency_plot("b", "case", arms, numbers),
        report_plots.order_strip("c", "case", result["runs"], numbers),
        report_plots.reuse_bars("d", "case", arms, numbers),
    ):
        root = ET.fromstring(svg)
        assert root.find(SVG + "title") is not None
        assert root.find(SVG + "desc") is not None
        assert any("".join(text.itertext()).strip() for text in root.iter(SVG + "text"))
        # Black or a colour of matplotlib's own would vanish in dark or light.
        assert re.findall(r"(?:fill|stroke): (?!none|var)[^;\"]*", svg) == []
        assert "var(--fg)" in svg


def test_two_figures_share_no_id() -> None:
    first, second = (
        page_svg.draw(
            name, "t", "d", 100, lambda figure: figure.subplots().plot([1, 2])
        )
        for name in ("one", "two")
    )
    ids = [set(re.findall(r'id="([^"]*)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_page_without_witnesses_or_runs(study: Study) -> None:
    without_reuse(study)
    assert "Connections" not in report_html.html_report(study.build())
    study.hosts["web1"]["runs"] = []
    assert "invalid" in report_html.html_report(study.build())
    study.hosts = {}
    assert "Keepalive" in report_html.html_report(study.build())


def test_matplotlib_missing_is_told(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_svg, "mpl", None)
    with pytest.raises(KeepaliveError, match="pip install matplotlib"):
        report_html.html_report(study.build())
