# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any, Dict

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.keepalive.fastapi.plugins.filter import keepalive_chain
from ansible_collections.keepalive.fastapi.plugins.module_utils.chain_links import (
    BUDGETS,
    CHAIN,
)

DOCUMENTED = yaml.safe_load(keepalive_chain.DOCUMENTATION)["options"]["_input"]
RETURNED = yaml.safe_load(keepalive_chain.RETURN)["_value"]["contains"]
EXAMPLE = yaml.safe_load(keepalive_chain.EXAMPLES)[0]


@pytest.fixture
def budgets() -> Dict[str, Any]:
    return dict(EXAMPLE["vars"]["budgets"])


derive = keepalive_chain.FilterModule().filters()["keepalive_chain"]


def test_the_example_gives_the_documented_values(budgets: Dict[str, Any]) -> None:
    assert derive(budgets) == {key: doc["sample"] for key, doc in RETURNED.items()}


def test_the_documentation_knows_every_budget_and_link() -> None:
    assert set(DOCUMENTED["suboptions"]) == {*BUDGETS, "worker_class"}
    assert list(RETURNED) == list(CHAIN)


def test_overrides_are_passed_on(budgets: Dict[str, Any]) -> None:
    assert derive(budgets, {"proxy_connect_s": 2})["proxy_connect_s"] == 2


def test_a_refusal_is_a_filter_error(budgets: Dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="app_keepalive_s = 5"):
        derive(budgets, {"app_keepalive_s": 5})


def test_input_that_is_no_dictionary_is_refused(budgets: Dict[str, Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="the budgets, as a dictionary"):
        derive("request_timeout_s=30")
    with pytest.raises(AnsibleFilterError, match="fastapi_service_chain_overrides as"):
        derive(budgets, ["app_keepalive_s"])
