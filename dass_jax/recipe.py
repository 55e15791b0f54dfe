"""Recipes: the settings that a result depends on, kept beside it to notice a stale one."""

import dataclasses
import hashlib
import json
from typing import Any

from dass_jax.errors import UserError

Recipe = dict[str, Any]


def plain(settings: Any) -> Any:
    """Settings as JSON gives them back: dataclasses become dicts, tuples become lists."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        settings = dataclasses.asdict(settings)
    return json.loads(json.dumps(settings))


def digest(recipe: Any) -> str:
    """A short name of a recipe, or of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def difference(saved: Any, wanted: Any, path: str = "") -> str | None:
    """The first place where two recipes differ, in words; None if they are equal.

    Args:
      saved: The recipe of what there is; anything else than a recipe counts as none.
      wanted: The recipe of now.
      path: Where in a larger recipe the two lie.
    """
    if not path and not isinstance(saved, dict):
        return "it has no recipe"
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for name in sorted(saved.keys() | wanted.keys()):
            inner = f"{path}.{name}" if path else name
            if found := difference(saved.get(name), wanted.get(name), inner):
                return found
        return None
    return None if saved == wanted else f"{path} was {saved!r} and is now {wanted!r}"


def require_equal(
    what: str, saved: Any, wanted: Recipe, otherwise: str = "use another work directory"
) -> None:
    """Refuses a result that was made from another recipe.

    Args:
      what: The result, as a message names it.
      saved: Its recipe.
      wanted: The recipe of now.
      otherwise: What to do to have both.

    Raises:
      UserError: If they differ; the message names the first difference.
    """
    if found := difference(saved, wanted):
        raise UserError(
            f"{what} was made with other settings ({found}): restore them, remove it, or "
            f"{otherwise}"
        )
