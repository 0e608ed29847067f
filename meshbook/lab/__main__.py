"""The lab's process: ``python -m meshbook.lab FOLDER CHOICE LIFELINE``, started by ``meshbook.lab.launch``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from pathlib import Path

from meshbook.errors import MeshbookError
from meshbook.lab.assembly import serve
from meshbook.lab.launch import LOGGER, Choice


def main(folder: str, choice: str, lifeline: str) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    broken: list[BaseException] = []
    try:
        asyncio.run(serve(Path(folder), Choice(**json.loads(choice)), lifeline=json.loads(lifeline)))
    except* MeshbookError as group:
        broken += group.exceptions
    except* Exception as group:  # noqa: BLE001 - whatever broke a part is told in the log, as every end is
        broken.append(group)
    for error in broken:
        logging.getLogger(LOGGER).error("%s", error, exc_info=None if isinstance(error, MeshbookError) else error)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
