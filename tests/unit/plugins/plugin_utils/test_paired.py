# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
from collections import Counter
from math import exp

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.plugin_utils.paired import (
    effect,
)

BASE = [100.0] * 8


def verdicts(ratio: float, noise: float, comparisons: int = 400) -> Counter[str]:
    """Compare simulated arms whose rates drift together and have noise of their own."""
    dice = random.Random(1)
    found: Counter[str] = Counter()
    for _number in range(comparisons):
        drift = [exp(dice.gauss(0, 0.3)) for _pair in range(8)]
        base = [1000 * each * exp(dice.gauss(0, noise)) for each in drift]
        other = [1000 * ratio * each * exp(dice.gauss(0, noise)) for each in drift]
        found[effect(base, other).verdict] += 1
    return found


def test_a_published_example() -> None:
    # Hollander and Wolfe, Nonparametric Statistical Methods, table 3.1 (depression
    # scores of nine patients): the estimate is -0.46, with an interval of 96.1 %
    # from -0.786 to -0.010.
    first = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    second = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    found = effect(list(map(exp, first)), list(map(exp, second)), confidence=0.96)
    assert found.ratio == pytest.approx(exp(-0.46), abs=0.001)
    assert (found.low, found.high) == pytest.approx((exp(-0.786), exp(-0.010)))
    # It leaves out no difference, but by less than RESOLUTION.
    assert (found.pairs, found.verdict) == (9, "inconclusive")


def test_the_interval_holds_the_ratio() -> None:
    other = [109.0, 110, 111, 112, 108, 110, 109.5, 110.5]
    found = effect(BASE, other)
    assert found.low < found.ratio < found.high
    assert found.ratio == pytest.approx(1.10, abs=0.005)
    assert found.verdict == "better"
    assert effect(other, BASE).verdict == "worse"


def test_alike_arms_are_seldom_called_different() -> None:
    assert verdicts(1.0, 0.02)["inconclusive"] >= 0.93 * 400


def test_a_slowdown_is_seen_through_a_drift_three_times_as_large() -> None:
    assert verdicts(0.9, 0.03)["worse"] >= 0.9 * 400


def test_a_difference_below_the_resolution_is_not_called() -> None:
    other = [100.8, 100.9, 100.7, 100.8, 100.9, 100.7, 100.8, 100.8]
    found = effect(BASE, other)
    assert found.low > 1
    assert found.verdict == "inconclusive"
    assert effect(BASE, [each + 1 for each in other]).verdict == "better"


def test_noise_makes_a_comparison_inconclusive_and_not_better() -> None:
    found = verdicts(0.95, 0.3)
    assert found["inconclusive"] >= 0.9 * 400
    assert found["better"] <= 0.025 * 400


@pytest.mark.parametrize(
    ("base", "other", "said"),
    [
        (BASE[1:], BASE[1:], "7 and 7 runs"),
        (BASE, BASE[1:], "8 and 7 runs"),
        (BASE, [0.0, *BASE[1:]], "without any answer"),
    ],
)
def test_what_cannot_be_compared(
    base: list[float], other: list[float], said: str
) -> None:
    with pytest.raises(KeepaliveError, match=said):
        effect(base, other)


def test_too_few_pairs_for_a_confidence() -> None:
    with pytest.raises(KeepaliveError, match="too few"):
        effect(BASE, BASE, confidence=0.999)
