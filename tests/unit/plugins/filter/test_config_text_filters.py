# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.keepalive.fastapi.plugins.filter.config_text import (
    FilterModule,
)

FILTERS = FilterModule().filters()
FOLDER = Path(__file__).parents[4] / "plugins" / "filter"


def test_a_filter_returns_what_its_function_returns() -> None:
    assert FILTERS["nginx_quote"]("a b") == '"a b"'


def test_a_refusal_is_a_filter_error_naming_the_variable() -> None:
    with pytest.raises(AnsibleFilterError, match="shop_name"):
        FILTERS["nginx_server_name"]("a b", name="shop_name")


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_every_filter_has_its_documentation(name: str) -> None:
    text = (FOLDER / "{0}.yml".format(name)).read_text()
    assert yaml.safe_load(text)["DOCUMENTATION"]["name"] == name
