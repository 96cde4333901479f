#!/usr/bin/python
# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: loss_probe
short_description: Send requests at a fixed rate, and account for every one
version_added: 0.1.0
author: keepalive.fastapi contributors (@keepalive)
description:
  - Sends lanes of requests while something else is done to the service, such as a
    release or a reload, and tells what became of each request.
  - Every request is due at a fixed moment, is sent as soon as one of its lane's clients
    is free, and counts in any case. A client that waits for an answer before it thinks
    of another request would send none while nothing answers, and so miss what
    visitors lose.
  - An answer must tell where it ends, by a length or in chunks, for otherwise a
    connection that was cut looks like the end of an answer.
  - A kept connection that the server closed while it waited is replaced, which
    loses nothing. A request whose connection ends under it is lost, for no client
    may send a POST a second time.
options:
  lanes:
    description: What to send. All lanes are sent at once.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What the lane is called in the result.
        type: str
        required: true
      kind:
        description:
          - V(http) for requests, those of server-sent events among them, which are
            read to their end.
          - V(websocket) for messages over a WebSocket, each of which is answered by
            one.
        type: str
        choices: [http, websocket]
        default: http
      url:
        description:
          - What to request; C(http) or C(https), and for a WebSocket C(ws) or C(wss).
            V({number}) in it is the request's number.
        type: str
        required: true
      method:
        description: The HTTP method.
        type: str
        default: GET
      headers:
        description:
          - Headers of every request, by name. With TLS the name in C(Host) is what
            the certificate must be for.
        type: dict
        default: {}
      body:
        description: The body or the message; V({number}) in it is the request's number.
        type: str
        default: ""
      keepalive:
        description: Whether a client keeps its connection for its next request.
        type: bool
        default: true
      connections:
        description: How many clients take turns in sending.
        type: int
        default: 4
      rate_per_s:
        description: How many requests are due each second, of all clients together.
        type: float
        default: 20
      expected_status:
        description: The status that every answer must have.
        type: int
        default: 200
      expected_text:
        description:
          - What every answer must contain; V({number}) in it is the request's number.
        type: str
        default: ""
      late_after_ms:
        description:
          - An answer that comes so long after its request was due counts as late,
            not as lost (in milliseconds).
        type: int
        default: 1000
      timeout_s:
        description:
          - How long to wait for a connection or a part of an answer (in seconds).
        type: int
        default: 30
      connection_max_s:
        description:
          - A client closes its connection before a request when it is that old (in
            seconds); V(0) keeps it as long as the server does.
        type: int
        default: 0
      validate_certs:
        description: Whether certificates must be valid.
        type: bool
        default: true
  duration_s:
    description: How long to send (in seconds).
    type: int
    default: 30
  stop_file:
    description:
      - Ends sooner once this file is there. It is removed at the end, and must not
        be there at the start.
    type: path
attributes:
  check_mode:
    description: Returns how many requests would be sent, and sends none.
    support: full
  diff_mode:
    description: Nothing on the host is changed.
    support: none
  idempotent:
    description: Every run sends requests, and none changes the host.
    support: N/A
"""

EXAMPLES = r"""
- name: Send orders while the service is reloaded
  keepalive.fastapi.loss_probe:
    duration_s: 60
    lanes:
      - name: POST on kept connections
        url: http://127.0.0.1/async/items/
        method: POST
        headers: {Host: shop.example.com, Content-Type: application/json}
        body: '{"name": "{number}", "price": 1.5}'
        expected_text: '"name":"{number}"'
        rate_per_s: 200
        connections: 20
      - name: GET on new connections
        url: http://127.0.0.1/health
        headers: {Host: shop.example.com}
        keepalive: false
  register: probe

- name: Nothing may be lost
  ansible.builtin.assert:
    that: probe.lost == 0
    fail_msg: "{{ probe.lost }} of {{ probe.requests }} lost: {{ probe.failures }}"
"""

RETURN = r"""
planned_requests:
  description: How many requests are due if nothing ends the probe sooner.
  returned: success
  type: int
  sample: 13200
requests:
  description: Requests that were due and are accounted for.
  returned: when sent
  type: int
  sample: 13200
lost:
  description: Requests that no right answer came to.
  returned: when sent
  type: int
  sample: 0
seconds:
  description: How long it took, answers included (in seconds).
  returned: when sent
  type: float
  sample: 60.03
begun_at_s:
  description: When it began, by the host's clock (Unix time in seconds).
  returned: when sent
  type: float
  sample: 1764057600.123
lanes:
  description:
    - Of each lane, by name, how many RV(requests) ended in each way. C(answered) as
      expected; C(late) the same, but later than O(lanes[].late_after_ms); and, which
      together are C(lost), C(never_sent) where no connection could be had,
      C(reset_on_reuse) where a kept connection ended before one byte of an answer,
      C(unanswered) where it ended or was silent otherwise, C(server_error) for a
      status of 500 or above, and C(wrong_answer) for another status or text.
    - C(latency_p50_ms), C(latency_p99_ms) and C(latency_max_ms) of the answers begin
      when the request was due. C(latency_histogram) is the same as an HdrHistogram
      (V2, deflate, base64), which can be merged.
    - C(lag_p50_ms) and so on tell how long after they were due requests were sent.
    - C(connections_opened), C(connections_closed_by_server) while they waited, and
      C(connections_closed_abruptly), under a request or without a close frame.
  returned: when sent
  type: dict
failures:
  description: The first twenty requests that were lost, as their clients saw it.
  returned: when sent
  type: list
  elements: dict
  sample:
    - lane: POST on kept connections
      number: 1203
      kind: reset_on_reuse
      said: RemoteDisconnected('Remote end closed connection without response')
      due_s: 6.015
      begun_s: 6.015
      ended_s: 6.016
      request_of_connection: 61
      connection_age_s: 6.001
timeline:
  description:
    - How many requests ended in each way, by lane, in intervals of C(interval_s)
      seconds; no more than 600 of them.
  returned: when sent
  type: dict
  sample: {interval_s: 1, lanes: {health: {answered: [20, 20, 20]}}}
"""

import contextlib
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_lanes import (
    lanes_of,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_run import (
    Probe,
    run_probe,
)

_LANE: t.Dict[str, t.Dict[str, t.Any]] = {
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": ["http", "websocket"], "default": "http"},
    "url": {"type": "str", "required": True},
    "method": {"type": "str", "default": "GET"},
    "headers": {"type": "dict", "default": {}},
    "body": {"type": "str", "default": ""},
    "keepalive": {"type": "bool", "default": True},
    "connections": {"type": "int", "default": 4},
    "rate_per_s": {"type": "float", "default": 20},
    "expected_status": {"type": "int", "default": 200},
    "expected_text": {"type": "str", "default": ""},
    "late_after_ms": {"type": "int", "default": 1000},
    "timeout_s": {"type": "int", "default": 30},
    "connection_max_s": {"type": "int", "default": 0},
    "validate_certs": {"type": "bool", "default": True},
}
_OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    "lanes": {"type": "list", "elements": "dict", "options": _LANE, "required": True},
    "duration_s": {"type": "int", "default": 30},
    "stop_file": {"type": "path"},
}


def probe_of(given: t.Mapping[str, t.Any]) -> Probe:
    """Return what to send. Raises KeepaliveError for what cannot be sent."""
    stop_file = given["stop_file"] or ""
    if stop_file and os.path.exists(stop_file):
        raise KeepaliveError(
            "stop_file: {0} is there already, so nothing would be sent; remove "
            "it".format(stop_file)
        )
    if given["duration_s"] < 1:
        raise KeepaliveError(
            "duration_s: {0} must be at least 1".format(given["duration_s"])
        )
    return Probe(
        lanes=lanes_of(given["lanes"]),
        duration_s=given["duration_s"],
        should_stop=lambda: bool(stop_file) and os.path.exists(stop_file),
    )


def main() -> None:
    module = AnsibleModule(argument_spec=_OPTIONS, supports_check_mode=True)
    try:
        probe = probe_of(module.params)
    except KeepaliveError as error:
        module.fail_json(msg=str(error))
    result: t.Dict[str, t.Any] = {"planned_requests": probe.planned_requests}
    if not module.check_mode:
        result.update(run_probe(probe))
        if module.params["stop_file"]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(module.params["stop_file"])
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
