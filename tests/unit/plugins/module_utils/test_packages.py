# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.packages import missing
from ansible_collections.keepalive.fastapi.tests.unit.plugins.module_utils.command import (  # noqa: E501
    Command,
)

# dpkg-query 1.22 on Debian 13, a few lines of it; the last one as it shows a package
# that was removed and whose configuration is left.
SAID = """\
installed mawk 1.3.4.20250131-1
installed nginx 1.26.3-3+deb13u11
installed nginx-common 1.26.3-3+deb13u11
installed python3-venv 3.13.5-1
config-files apache2 2.4.62-1
"""


@pytest.mark.parametrize(
    ("wanted", "lacks"),
    [
        (["nginx", "python3-venv"], []),
        (["nginx", "curl"], ["curl"]),
        (["nginx=1.26.3-3+deb13u11", "nginx=1.26.*"], []),
        (["nginx=1.28.*"], ["nginx=1.28.*"]),
        (["apache2"], ["apache2"]),
    ],
)
def test_what_is_installed_is_not_missing(wanted: List[str], lacks: List[str]) -> None:
    assert missing(wanted, Command(out=SAID)) == lacks


@pytest.mark.parametrize("wanted", ["awk", "nginx:amd64", "nginx>=1.20", "nginx/sid"])
def test_what_only_apt_can_tell_is_left_to_it(wanted: str) -> None:
    assert missing([wanted], Command(out=SAID)) == [wanted]


def test_nothing_wanted_asks_nothing() -> None:
    command = Command(2, "", "no database")
    assert missing([], command) == []
    assert not command.asked


def test_a_host_without_that_list_says_so() -> None:
    with pytest.raises(KeepaliveError, match="cannot read which packages"):
        missing(["nginx"], Command(2, "", "no database"))
