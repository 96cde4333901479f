"""Ask this host's nginx for one page, or post to it; print the answer as JSON.

Runs on the host under test with nothing but its Python. One JSON object of
options as the argument: host, path, port, tls, headers, body.
"""

import http.client
import json
import socket
import ssl
import sys
import time


def main() -> None:
    options = json.loads(sys.argv[1])
    port = options.get("port", 443 if options.get("tls") else 80)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    if options.get("tls"):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", port), 30)
        connection.sock = context.wrap_socket(plain, server_hostname=options["host"])
    headers = {"Host": options["host"], **options.get("headers", {})}
    body = options.get("body")
    connection.request("POST" if body else "GET", options["path"], body, headers)
    response = connection.getresponse()
    begun = time.monotonic()
    first = response.readline().decode(errors="replace")
    seconds_to_first_line = time.monotonic() - begun
    print(
        json.dumps(
            {
                "status": response.status,
                "headers": dict(response.getheaders()),
                "body": first + response.read().decode(errors="replace"),
                "seconds_to_first_line": seconds_to_first_line,
            }
        )
    )


main()
