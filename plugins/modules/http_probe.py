#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: http_probe
short_description: Ask this host's own nginx for a page of one of its sites
version_added: 0.1.0
description:
  - Sends one GET request to a port of 127.0.0.1 on the target, with the Host
    header, and under TLS the server name, that a visitor would send. Unlike
    M(ansible.builtin.uri) it needs no name that resolves to the host.
  - Fails unless the answer has the expected status. Changes nothing.
  - The certificate is not verified, since the host asks itself by address.
author: keepalive.fastapi contributors (@keepalive)
options:
  port:
    description: Port on 127.0.0.1; 1 to 65535.
    type: int
    required: true
  scheme:
    description: Whether to speak TLS.
    type: str
    choices: [http, https]
    default: http
  host:
    description: The site's name.
    type: str
    required: true
  path:
    description: Path to ask for.
    type: str
    default: /health
  status:
    description: The status to expect.
    type: int
    default: 200
  timeout_s:
    description: How long to wait for each of connecting and answering (in seconds).
    type: int
    default: 30
attributes:
  check_mode:
    description: Is skipped, since what it would ask may not be there yet.
    support: none
  diff_mode:
    description: Has nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: The shop answers through nginx
  keepalive.fastapi.http_probe:
    port: 443
    scheme: https
    host: shop.example.com
    path: /health
"""

RETURN = r"""
status:
  description: The status that was answered.
  returned: success
  type: int
  sample: 200
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import (
    Probe,
    ask_nginx,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "required": True},
            "scheme": {"type": "str", "choices": ["http", "https"], "default": "http"},
            "host": {"type": "str", "required": True},
            "path": {"type": "str", "default": "/health"},
            "status": {"type": "int", "default": 200},
            "timeout_s": {"type": "int", "default": 30},
        },
    )
    given = module.params
    probe = Probe(given["path"], given["status"], given["host"], given["scheme"])
    reason = ask_nginx(given["port"], probe, given["timeout_s"])
    if reason:
        module.fail_json(
            msg="GET {scheme}://{host}{path} on port {port} of this host gave "
            "{reason}. Look at /var/log/nginx/error.log and the service's journal "
            "there.".format(reason=reason, **given)
        )
    module.exit_json(changed=False, status=given["status"])


if __name__ == "__main__":
    main()
