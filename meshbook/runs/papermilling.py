"""papermill, imported late and cheaply. Nothing else may import it."""

from __future__ import annotations

import sys
from types import ModuleType


def papermill() -> ModuleType:
    """Import papermill without its slow guest.

    With jupyterlab installed, jsonschema's optional check of IRIs (``rfc3987_syntax``) compiles grammars for 0.85 s at
    import, and no Jupyter schema uses it. jsonschema goes without when the module is missing, so it is made missing.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import papermill as library

    return library  # type: ignore[no-any-return]
