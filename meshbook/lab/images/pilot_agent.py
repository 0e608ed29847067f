"""``pilot-agent`` in the proxy's image, as far as it is asked from outside: ``pilot-agent request METHOD PATH [BODY]``.

Prints what the pod's Envoy answers at its admin port. Standard library only; imports nothing of meshbook. Where a pod
listens is in its environment (``POD_IP``; a real agent asks localhost).
"""

from __future__ import annotations

import argparse
import os
import sys
import urllib.error
import urllib.request

ADMIN_PORT, STATUS_PORT = 15000, 15021
TIMEOUT_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="pilot-agent")
    request = parser.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "request", help="Makes an HTTP request to the Envoy admin API"
    )
    request.add_argument("method")
    request.add_argument("path")
    request.add_argument("body", nargs="?", default="")
    request.add_argument("--debug-port", type=int, choices=(ADMIN_PORT, STATUS_PORT), default=ADMIN_PORT)
    given = parser.parse_args()
    url = f"http://{os.environ.get('POD_IP', '127.0.0.1')}:{given.debug_port}/{given.path.lstrip('/')}"
    asked = urllib.request.Request(url, data=given.body.encode() or None, method=given.method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=TIMEOUT_S) as answer:
            text = answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        if error.code != 404:
            return _failed(f"received unsuccessful status code {error.code}: {text}")
    except OSError as error:
        return _failed(str(error))
    sys.stdout.write(text + "\n")
    return 0


def _failed(message: str) -> int:
    sys.stderr.write(f"Error: {message}\n")
    return 255


if __name__ == "__main__":
    sys.exit(main())
