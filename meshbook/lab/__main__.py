"""The lab's process: ``python -m meshbook.lab FOLDER …``, started by ``meshbook.lab.launch``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from meshbook.errors import MeshbookError
from meshbook.lab.assembly import serve
from meshbook.lab.launch import APISERVERS, LOGGER


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m meshbook.lab")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lifeline", action="store_true", help="end when standard input ends")
    parser.add_argument("--apiserver", choices=APISERVERS, default=APISERVERS[0])
    parser.add_argument("--fast", action="store_true", help="the sample application costs no CPU")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in ("httpx", "httpcore", "aiohttp.access"):
        logging.getLogger(library).setLevel(logging.WARNING)
    broken: list[BaseException] = []
    try:
        real_api = arguments.apiserver == "real"
        asyncio.run(serve(arguments.folder, lifeline=arguments.lifeline, real_api=real_api, fast=arguments.fast))
    except* MeshbookError as group:
        broken += group.exceptions
    for error in broken:
        logging.getLogger(LOGGER).error("%s", error)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
