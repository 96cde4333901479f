"""A stub for a host: it answers each module as a real host once did.

For what a run of very many hosts costs the controller. Not a host's cost, nor SSH's.
"""

from __future__ import annotations

import re
from pathlib import Path

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: replay
short_description: Answers as a real host once did
description: For measurements of the controller alone.
author: keepalive.fastapi contributors (@keepalive)
options:
  answers:
    description: Folder with a module's answer in MODULE.json.
    type: path
    required: true
    env: [{name: REPLAY_ANSWERS}]
"""
MODULE = re.compile(rb"ansible(?:_collections\.[a-z_.]+\.plugins)?\.modules\.([a-z_]+)")


class Connection(ConnectionBase):  # type: ignore[misc]
    transport = "replay"
    has_pipelining = True
    always_pipeline_modules = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(
        self, cmd: str, in_data: bytes | None = None, sudoable: bool = True
    ) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        found = MODULE.search(in_data or b"")
        if not found:
            raise NotImplementedError(cmd)
        path = Path(self.get_option("answers")) / f"{found[1].decode()}.json"
        return 0, path.read_bytes(), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        raise NotImplementedError(in_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        raise NotImplementedError(out_path)

    def close(self) -> None:
        self._connected = False
