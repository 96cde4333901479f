# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that make a variable's value safe in a generated configuration."""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable, Dict

from ansible.errors import AnsibleFilterError
from ansible_collections.keepalive.fastapi.plugins.module_utils import config_text
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)


def _as_filter(function: Callable[..., str]) -> Callable[..., str]:
    @wraps(function)
    def apply(*args: Any, **kwargs: Any) -> str:
        try:
            return function(*args, **kwargs)
        except KeepaliveError as error:
            raise AnsibleFilterError(str(error)) from error

    return apply


class FilterModule:
    def filters(self) -> Dict[str, Callable[..., str]]:
        return {
            function.__name__: _as_filter(function)
            for function in (
                config_text.nginx_cidr,
                config_text.nginx_header_name,
                config_text.nginx_quote,
                config_text.nginx_server_name,
                config_text.nginx_size,
                config_text.python_literal,
                config_text.systemd_environment,
                config_text.systemd_value,
            )
        }
