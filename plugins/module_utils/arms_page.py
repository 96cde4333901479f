# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration that the page published with which this collection began.

It is keepalive.md of github.com/KissPeter/fastapi-performance-optimization, "full
Nginx config for FastAPI with keepalive support"; the values are its own. Gunicorn
ran beside it with three Uvicorn workers and keepalive 120.

Its backlog was 64. A full unix socket is an instant 502, so with 100 connections two
fifths of all answers are errors, which wrk is quick to receive. The arm gets
Gunicorn's default instead, which makes it valid, and slower than it would look.
"""

from __future__ import annotations

from typing import Dict

from ansible_collections.keepalive.fastapi.plugins.module_utils.arms import Arm
from ansible_collections.keepalive.fastapi.plugins.module_utils.arms_app import (
    LISTENERS,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.reuse import (
    CONNECTION_HEADER,
)

GUNICORN: Dict[str, int] = {
    "workers": 3,
    "backlog": 2048,
    "keep-alive": 120,
    LISTENERS: 1,
}

_CONFIG = """\
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{
    worker_connections 4096;
    accept_mutex off;
    use epoll;
}}
http {{
    default_type application/octet-stream;
    tcp_nodelay on;
    access_log off;
    upstream gunicorn {{
        server {socket} fail_timeout=0;
        keepalive 8;
    }}
    server {{
        listen {address}:{port};
        server_tokens off;
        client_max_body_size 20M;
        gzip on;
        gzip_proxied any;
        gzip_comp_level 6;
        gzip_min_length 200;
        location / {{
            proxy_pass http://gunicorn;
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $http_x_forwarded_proto;
            proxy_pass_header Server;
            proxy_ignore_client_abort on;
            proxy_connect_timeout 65s;
            proxy_read_timeout 65s;
            proxy_send_timeout 65s;
            proxy_redirect off;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
        keepalive_requests 5000;
        keepalive_timeout 120;
        set_real_ip_from 10.0.0.0/8;
        set_real_ip_from 172.16.0.0/12;
        set_real_ip_from 192.168.0.0/16;
        real_ip_header X-Forwarded-For;
        real_ip_recursive on;
    }}
    server {{
        listen {address}:{status_port};
        location = /status {{
            stub_status;
            add_header {header} $connection;
        }}
    }}
}}
"""


def render_page(arm: Arm, user: str, folder: str, status_port: int) -> str:
    """Return the page's nginx configuration for an application at ``arm.socket``."""
    return _CONFIG.format(
        user=user,
        folder=folder,
        socket=arm.socket,
        address=arm.address,
        port=arm.port,
        status_port=status_port,
        header=CONNECTION_HEADER,
    )
