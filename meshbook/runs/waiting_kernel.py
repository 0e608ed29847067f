"""Do a notebook's imports, wait for one line on stdin, and become a Jupyter kernel. A program, started by ``kernels``.

Its argument is Python source, the imports. The line is JSON: the kernel's ``argv`` (a module and its arguments), its
``env`` and its ``cwd``. Where stdin ends instead, whoever was to use it is gone, and so is this.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import sys


def main() -> None:
    with contextlib.suppress(Exception):  # the notebook's own cell does it again, and says what is wrong
        exec(sys.argv[1], {})
    line = sys.stdin.readline()
    if not line:
        return
    told = json.loads(line)
    os.environ.clear()
    os.environ.update(told["env"])
    os.chdir(told["cwd"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    sys.argv = told["argv"]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
