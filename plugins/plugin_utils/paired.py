# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether one arm of a benchmark is faster than the other, and how surely.

Absolute rates drift from minute to minute by more than what is looked for. Two
runs next to each other share their minute, so what counts is the ratio within
a pair: its Hodges-Lehmann estimate, with the confidence interval that belongs
to Wilcoxon's signed-rank test. Neither asks how the noise is distributed, only
that it is as likely to favour one arm as the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from statistics import median
from typing import List, Sequence

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

LEAST_PAIRS = 8
# The place in a round, what a run leaves behind for the next: two equal arms are known
# to be alike only so far (`make calibrate`), so no verdict rests on less.
RESOLUTION = 0.01


@dataclass(frozen=True)
class Effect:
    """The second arm's rate divided by the first's, and what that says.

    ``verdict`` is ``better``, ``worse`` or ``inconclusive``; in the first two cases
    the whole interval is further from 1 than RESOLUTION.
    """

    ratio: float
    low: float
    high: float
    confidence: float
    pairs: int
    verdict: str


def effect(
    base: Sequence[float], other: Sequence[float], confidence: float = 0.95
) -> Effect:
    """Compare ``other`` with ``base``, rates of runs that are paired by position.

    Raises KeepaliveError for fewer than LEAST_PAIRS pairs, or a rate that is not
    above zero.
    """
    if len(base) != len(other) or len(base) < LEAST_PAIRS:
        raise KeepaliveError(
            "there are {0} and {1} runs of the two arms; at least {2} pairs are "
            "needed".format(len(base), len(other), LEAST_PAIRS)
        )
    if min(*base, *other) <= 0:
        raise KeepaliveError("a run without any answer cannot be compared")
    ratios = [log(b / a) for a, b in zip(base, other)]
    means = sorted(
        (ratios[i] + ratios[j]) / 2 for i in range(len(ratios)) for j in range(i + 1)
    )
    outside = _critical_rank_sum(len(ratios), 1 - confidence)
    low, high = exp(means[outside]), exp(means[-1 - outside])
    return Effect(
        exp(median(means)), low, high, confidence, len(ratios), _verdict(low, high)
    )


def _verdict(low: float, high: float) -> str:
    if low > 1 + RESOLUTION:
        return "better"
    return "worse" if high < 1 - RESOLUTION else "inconclusive"


@lru_cache(maxsize=None)
def _critical_rank_sum(number: int, alpha: float) -> int:
    """Return the largest signed-rank sum that the test rejects.

    As many means of pairs lie outside of each end of the interval.
    """
    # Not above: whatever task uses one filter of this collection loads them all, and
    # scipy takes a second to load.
    try:
        from scipy.stats import wilcoxon  # noqa: PLC0415
    except ImportError:
        raise KeepaliveError(
            "scipy is missing on the controller; install it beside ansible "
            "(pip install scipy)"
        ) from None
    # The p-value grows with the rank sum, so the last one that is rejected is found
    # by halving.
    low, high = -1, number * (number + 1) // 4
    while low < high:
        middle = (low + high + 1) // 2
        values = _with_negative_rank_sum(number, middle)
        if wilcoxon(values, method="exact").pvalue <= alpha:
            low = middle
        else:
            high = middle - 1
    if low < 0:
        raise KeepaliveError(
            "{0} pairs are too few for a confidence of {1}".format(number, 1 - alpha)
        )
    return low


def _with_negative_rank_sum(number: int, rank_sum: int) -> List[int]:
    """Return 1 to ``number``, some negative, which add up to ``rank_sum``."""
    values = []
    for rank in range(number, 0, -1):
        if rank <= rank_sum:
            rank_sum -= rank
            values.append(-rank)
        else:
            values.append(rank)
    return values
