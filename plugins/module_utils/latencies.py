# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Latencies of one run as percentiles and as a histogram that can be merged.

Percentiles of several runs or hosts cannot be averaged; their histograms can
be added. The form is HdrHistogram's V2 compressed encoding, which its
libraries in many languages read (HdrHistogram, AbstractHistogram.java,
encodeIntoCompressedByteBuffer).
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Dict, Iterator, List, Mapping

# Two significant digits: a bucket is at most 1 % of its value wide.
_SIGNIFICANT_DIGITS = 2
_HALF_COUNT_BITS = 7  # 2**8 sub-buckets resolve values up to 2 * 10**2 exactly
_HALF_COUNT = 1 << _HALF_COUNT_BITS
_SUB_BUCKET_MASK = 2 * _HALF_COUNT - 1
_WHOLE_BYTE = 8  # ZigZag LEB128 here ends with a ninth byte of eight bits
_LOW_BITS = 0x7F
_HIGHEST_US = 3_600_000_000
_PAYLOAD_COOKIE = 0x1C849303 | 0x10
_COMPRESSED_COOKIE = 0x1C849304 | 0x10

# How often each latency in whole microseconds was seen.
Counts = Mapping[int, int]


def percentile_us(counts: Counts, percent: float) -> int:
    """Return the smallest latency that ``percent`` of all do not exceed.

    Raises ValueError when nothing was counted.
    """
    total = sum(counts.values())
    if total == 0:
        raise ValueError("no latency was counted")
    # Rounded, or 99.9 % of a thousand would be one too many.
    wanted, seen = round(percent / 100 * total, 6), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return max(counts)


def without_correction(counts: Counts, interval_us: int) -> Dict[int, int]:
    """Take back wrk's correction for coordinated omission (``stats_correct``).

    For each latency of at least two intervals wrk has added one for each
    interval less, as if requests had been due meanwhile. The highest was added
    to by none, so taking back begins there.
    """
    raw = dict(counts)
    for value in sorted(counts, reverse=True):
        if value < 2 * interval_us:
            break
        for added in range(value - interval_us, interval_us, -interval_us):
            if raw[value] and added in raw:
                raw[added] -= raw[value]
    return {value: count for value, count in raw.items() if count > 0}


def encode_hdr(counts: Counts) -> str:
    """Return the latencies as an HdrHistogram in base64; see the module's text."""
    slots: Dict[int, int] = {}
    for value, count in counts.items():
        slot = _slot(min(value, _HIGHEST_US))
        slots[slot] = slots.get(slot, 0) + count
    body = b"".join(_zigzag(number) for number in _runs(slots))
    head = struct.pack(
        ">iiiiqqd",
        _PAYLOAD_COOKIE,
        len(body),
        0,
        _SIGNIFICANT_DIGITS,
        1,
        _HIGHEST_US,
        1.0,
    )
    packed = zlib.compress(head + body, 9)
    frame = struct.pack(">ii", _COMPRESSED_COOKIE, len(packed))
    return base64.b64encode(frame + packed).decode("ascii")


def _slot(value: int) -> int:
    """Return a value's index among the counters."""
    bucket = (value | _SUB_BUCKET_MASK).bit_length() - (_HALF_COUNT_BITS + 1)
    return ((bucket + 1) << _HALF_COUNT_BITS) + (value >> bucket) - _HALF_COUNT


def _runs(slots: Mapping[int, int]) -> Iterator[int]:
    """Yield each counter in order, and minus its length for a run of zeros."""
    expected = 0
    for slot, count in sorted(slots.items()):
        if slot > expected:
            yield expected - slot
        yield count
        expected = slot + 1


def _zigzag(number: int) -> bytes:
    """Return a number as ZigZag LEB128 of at most nine bytes, the last one whole."""
    rest = (number << 1) ^ (number >> 63)
    out: List[int] = []
    while rest > _LOW_BITS and len(out) < _WHOLE_BYTE:
        out.append(rest & _LOW_BITS | _LOW_BITS + 1)
        rest >>= 7
    return bytes([*out, rest])
