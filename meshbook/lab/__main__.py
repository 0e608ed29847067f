"""The lab's process: ``python -m meshbook.lab FOLDER …``, started by ``meshbook.lab.launch``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path

from meshbook.errors import MeshbookError
from meshbook.lab.assembly import Plan, serve
from meshbook.lab.launch import APISERVERS, LOGGER, SIDECARS
from meshbook.lab.topology import FAST, Pace


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m meshbook.lab")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lifeline", action="store_true", help="end when standard input ends")
    parser.add_argument("--apiserver", choices=APISERVERS, default=APISERVERS[0])
    parser.add_argument("--fast", action="store_true", help="what takes time in a real mesh takes next to none")
    parser.add_argument("--pod-start", type=float, metavar="S", help="before the first container of a pod starts")
    parser.add_argument("--sidecars", choices=SIDECARS, default=SIDECARS[0])
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in ("httpx", "httpcore", "aiohttp.access"):
        logging.getLogger(library).setLevel(logging.WARNING)
    pace, native = FAST if arguments.fast else Pace(), arguments.sidecars == SIDECARS[0]
    if arguments.pod_start is not None:
        pace = replace(pace, pod_start_s=arguments.pod_start)
    broken: list[BaseException] = []
    try:
        plan = Plan(pace=pace, native_sidecars=native, real_api=arguments.apiserver == "real")
        asyncio.run(serve(arguments.folder, plan, lifeline=arguments.lifeline))
    except* MeshbookError as group:
        broken += group.exceptions
    except* Exception as group:  # noqa: BLE001 - whatever broke a part is told in the log, as every end is
        broken.append(group)
    for error in broken:
        logging.getLogger(LOGGER).error("%s", error, exc_info=None if isinstance(error, MeshbookError) else error)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
