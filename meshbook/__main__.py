"""``python -m meshbook`` is ``meshbook``."""

import sys

from meshbook.cli import main

if __name__ == "__main__":
    sys.exit(main())
