# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.latencies import (
    encode_hdr,
    percentile_us,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils import histograms

FAST = {1000: 900, 2000: 100}
SLOW = {3000: 50, 900_000: 50}


def test_percentiles_of_a_sum_are_those_of_all_requests() -> None:
    merged = histograms.merge_histograms([encode_hdr(FAST), "", encode_hdr(SLOW)])
    together = {**FAST, **SLOW}
    found = histograms.percentiles_ms(merged)
    for name, percent in histograms.PERCENTILES.items():
        exact = percentile_us(together, percent) / 1000
        assert found[name] == pytest.approx(exact, rel=0.01)


def test_the_curve_rises_to_all_requests() -> None:
    curve = histograms.latency_curve(encode_hdr({**FAST, **SLOW}))
    assert [share for share, _ms in curve] == pytest.approx(
        [900 / 1100, 1000 / 1100, 1050 / 1100, 1]
    )
    assert [ms for _share, ms in curve] == pytest.approx([1, 2, 3, 900], rel=0.01)


def test_nothing_measured_has_no_percentiles() -> None:
    assert not histograms.merge_histograms(["", ""])
    assert set(histograms.percentiles_ms("").values()) == {None}
    assert set(histograms.percentiles_ms(encode_hdr({})).values()) == {None}
    assert histograms.latency_curve("") == []


def test_a_torn_histogram_is_named() -> None:
    with pytest.raises(KeepaliveError, match="latency_histogram: no HdrHistogram"):
        histograms.merge_histograms([encode_hdr(FAST)[:-8]])


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histograms, "HdrHistogram", None)
    with pytest.raises(KeepaliveError, match="pip install hdrhistogram"):
        histograms.merge_histograms([encode_hdr(FAST)])
