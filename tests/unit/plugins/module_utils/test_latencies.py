# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Dict

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.latencies import (
    encode_hdr,
    percentile_us,
    without_correction,
)
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

COUNTS = st.dictionaries(
    st.integers(1, 3_600_000_000), st.integers(1, 10**9), min_size=1, max_size=300
)


def test_percentiles_of_known_latencies() -> None:
    counts = dict.fromkeys(range(1, 1001), 1)
    assert percentile_us(counts, 50) == 500
    assert percentile_us(counts, 99.9) == 999
    assert percentile_us(counts, 100) == 1000
    with pytest.raises(ValueError, match="no latency"):
        percentile_us({}, 50)


@given(COUNTS)
def test_hdrhistogram_reads_what_was_counted(counts: Dict[int, int]) -> None:
    read = HdrHistogram.decode(encode_hdr(counts))
    assert read.get_total_count() == sum(counts.values())
    expected = HdrHistogram(1, 3_600_000_000, 2)
    for value, count in counts.items():
        expected.record_value(value, count)
    assert read.encode() == expected.encode()


@given(COUNTS, COUNTS)
def test_merged_histograms_are_those_of_all(
    one: Dict[int, int], two: Dict[int, int]
) -> None:
    merged = HdrHistogram.decode(encode_hdr(one))
    merged.decode_and_add(encode_hdr(two))
    both = {value: one.get(value, 0) + two.get(value, 0) for value in {*one, *two}}
    assert merged.encode() == HdrHistogram.decode(encode_hdr(both)).encode()


@given(
    st.dictionaries(st.integers(1, 3000), st.integers(1, 99), min_size=1),
    st.integers(1, 500),
)
def test_wrks_correction_can_be_taken_back(counts: Dict[int, int], every: int) -> None:
    corrected = dict(counts)
    for value in range(2 * every, max(counts) + 1):  # stats_correct() in wrk's stats.c
        for missed in range(value - every, every, -every):
            corrected[missed] = corrected.get(missed, 0) + corrected.get(value, 0)
    assert without_correction(corrected, every) == counts


def test_a_long_run_stays_small() -> None:
    counts = {value: 1 + value % 7 for value in range(100, 5_000_000, 37)}
    assert len(encode_hdr(counts)) < 8192
