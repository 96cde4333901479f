# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Latencies of several runs as one: their histograms added, never percentiles averaged.

A histogram is text here: HdrHistogram's V2 compressed encoding in base64, in
microseconds, as http_benchmark returns it. An empty text is an empty histogram.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

try:
    from hdrh.histogram import HdrHistogram
except ImportError:  # told when it is needed; ansible-doc works without
    HdrHistogram = None

PERCENTILES = {"p50": 50.0, "p75": 75.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
_US_PER_MS = 1000
# Below the share of one request, above what floating point adds.
_EXACT = 1e-12


def merge_histograms(encoded: Iterable[str]) -> str:
    """Return the sum of histograms; raises KeepaliveError for one that is none."""
    merged = None
    for text in encoded:
        if not text:
            continue
        histogram = _decode(text)
        if merged is None:
            merged = histogram
        else:
            merged.add(histogram)
    return "" if merged is None else str(merged.encode().decode("ascii"))


def percentiles_ms(encoded: str) -> Dict[str, Optional[float]]:
    """Return the latency (ms) that each share of requests did not exceed.

    Null for each where nothing was counted.
    """
    curve = latency_curve(encoded)
    # Not hdrh's own, which rounds to the nearest request and so may leave out one.
    return {
        name: next((ms for share, ms in curve if share >= percent / 100 - _EXACT), None)
        for name, percent in PERCENTILES.items()
    }


def latency_curve(encoded: str) -> List[Tuple[float, float]]:
    """Return (share of requests, latency in ms that they did not exceed), rising.

    The last share is 1. Empty where nothing was counted.
    """
    if not encoded:
        return []
    histogram = _decode(encoded)
    seen, total, points = 0, histogram.get_total_count(), []
    for step in histogram.get_recorded_iterator():
        seen += step.count_added_in_this_iter_step
        points.append((seen / total, step.value_iterated_to / _US_PER_MS))
    return points


def _decode(encoded: str) -> HdrHistogram:
    if HdrHistogram is None:
        raise KeepaliveError(
            "hdrhistogram is missing on the controller; install it beside ansible "
            "(pip install hdrhistogram)"
        )
    try:
        return HdrHistogram.decode(encoded)
    except Exception as error:  # hdrh raises whatever its reading stumbles over
        raise KeepaliveError(
            "latency_histogram: no HdrHistogram in base64: {0}".format(error)
        ) from error
