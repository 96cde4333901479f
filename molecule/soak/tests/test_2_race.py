"""The idle race, made to happen fifty times."""

from __future__ import annotations

import os
import re

import pytest
from soak_record import record

from conftest import Host, run_script

pytestmark = pytest.mark.on_hosts("d12")
TRIES = int(os.environ.get("SOAK_TRIES", "50"))


def lost(host: Host, app_idle_s: int) -> int:
    """Send a POST just as the app's idle time ends, with nginx held meanwhile."""
    got = [
        run_script(
            host,
            "race.py",
            host="raced.test",
            pause_after_s=app_idle_s - 0.3,
            resume_after_s=app_idle_s + 0.7,
        )
        for _try in range(TRIES)
    ]
    assert all(each["warmed"] == 200 for each in got)
    return sum(each["answered"] != 200 for each in got)


def idle_s(host: Host, path: str, pattern: str) -> int:
    found = re.search(pattern, host.file(path).content_string, re.MULTILINE)
    assert found
    return int(found[1])


def test_ours_never_loses_it(name: str, host: Host) -> None:
    live = host.check_output("readlink /run/raced/live.sock")
    slot = live.removesuffix(".sock")
    app_s = idle_s(host, f"/etc/raced/{slot}/gunicorn.conf.py", r"^keepalive = (\d+)$")
    found = lost(host, app_s)
    record("idle race, this collection", name, {"tries": TRIES, "lost": found})
    assert found == 0


def test_gunicorns_default_always_does(name: str, host: Host) -> None:
    """As the original page: the app keeps connections 2 s, nginx 60."""
    slot = host.check_output("readlink /run/raced/live.sock").removesuffix(".sock")
    site = "/etc/nginx/conf.d/raced.conf"
    host.check_output(
        "sed -i 's/^keepalive = .*/keepalive = 2/' /etc/raced/%s/gunicorn.conf.py && "
        "sed -i 's/keepalive_timeout 1s;/keepalive_timeout 60s;/' %s && "
        "systemctl restart raced@%s.service && nginx -s reload && sleep 4",
        slot,
        site,
        slot,
    )
    found = lost(host, 2)
    record("idle race, Gunicorn's default", name, {"tries": TRIES, "lost": found})
    assert found == TRIES
