"""Make the idle race happen on purpose and tell what the client got.

Runs as root on the host under test with nothing but its Python. Warms a
connection through nginx, stops nginx's workers ``pause_after_s`` later, sends
a POST on the same connection, lets the workers go on ``resume_after_s`` after
the warming, and prints the POST's status. All times in seconds. Options as
one JSON object: host, pause_after_s, resume_after_s.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import time

ITEM = json.dumps({"name": "a", "price": 1.5})


def post(connection: http.client.HTTPConnection, host: str) -> None:
    connection.request(
        "POST",
        "/async/items/",
        ITEM,
        {"Host": host, "Content-Type": "application/json"},
    )


def answer(connection: http.client.HTTPConnection) -> int:
    response = connection.getresponse()
    response.read()
    return response.status


def workers() -> list[int]:
    with open("/run/nginx.pid") as stream:
        master = stream.read().strip()
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", master], capture_output=True, check=True
    )
    return [int(pid) for pid in listed.stdout.split()]


def main() -> None:
    options = json.loads(sys.argv[1])
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=30)
    post(connection, options["host"])
    warmed = answer(connection)
    begun = time.monotonic()
    pids = workers()
    time.sleep(options["pause_after_s"])
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        post(connection, options["host"])
        time.sleep(begun + options["resume_after_s"] - time.monotonic())
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    print(json.dumps({"warmed": warmed, "answered": answer(connection)}))


main()
