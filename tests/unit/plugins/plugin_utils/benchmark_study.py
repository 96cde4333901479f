# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A study of real runs for the tests of the report."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from ansible_collections.keepalive.fastapi.plugins.plugin_utils.study_result import (
    Result,
    build_result,
)

FIXTURE = Path(__file__).parent / "fixtures/client_keepalive_reuse_assumed.json"


class Study:
    """The fixture's cases and hosts, to be changed by a test and built."""

    def __init__(self) -> None:
        read = json.loads(FIXTURE.read_text())
        self.cases: list[Any] = read["cases"]
        self.hosts: dict[str, Any] = read["hosts"]
        self.title = "Keepalive between client and nginx"
        self.confidence = 0.95

    @property
    def runs(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = self.hosts["web1"]["runs"]
        return runs

    def rename(self, **names: str) -> None:
        """Give arms other names."""
        for case in self.cases:
            case["arms"] = [names.get(arm, arm) for arm in case["arms"]]
            case["base"] = names.get(case["base"], case["base"])
        for run in self.runs:
            run["arm"] = names.get(run["arm"], run["arm"])

    def add_host(self, name: str, ratio: float = 1.0) -> None:
        """Add a host whose arm "on" is faster by ``ratio`` than on the first."""
        self.hosts[name] = deepcopy(self.hosts["web1"])
        for run in self.hosts[name]["runs"]:
            if run["arm"] == "on":
                run["requests_per_s"] *= ratio

    def build(self) -> Result:
        return build_result(
            study="client_keepalive",
            title=self.title,
            created="2026-02-01T12:00:00Z",
            collection_version="0.1.0",
            cases=self.cases,
            hosts=self.hosts,
            confidence=self.confidence,
        )
