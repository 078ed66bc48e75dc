"""stub"""

from typing import Any


def description() -> dict[str, Any]:
    return {}
