"""What somebody meant who wrote a name that there is not."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches


def did_you_mean(said: str, known: Sequence[str] | Mapping[str, str], cutoff: float = 0.6) -> str:
    """Return `did you mean name?` of the name that is nearest, whatever its case; empty where none is near.

    Of a mapping the keys are compared and the values shown. `cutoff` is how near it must be, from 0 to 1.
    """
    shown = known if isinstance(known, Mapping) else {name: name for name in known}
    folded = {name.casefold(): text for name, text in shown.items()}
    near = get_close_matches(said.casefold(), folded, n=1, cutoff=cutoff)
    return f"did you mean {folded[near[0]]}?" if near else ""
