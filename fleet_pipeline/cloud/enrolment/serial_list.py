"""The allow-list's text as the hook reads it: the hook's own file, as it is not part of this package but of the
function's code.
"""

import importlib.util
import sys
from functools import cache
from typing import Any

from fleet_pipeline.cloud.kinds.function import HOOK_FOLDER


@cache
def module() -> Any:
    """Return the hook's module `serials`."""
    path = HOOK_FOLDER / "serials.py"
    spec = importlib.util.spec_from_file_location("fleet_pipeline_hook_serials", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    found = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = found  # dataclasses look their module up there
    spec.loader.exec_module(found)
    return found
