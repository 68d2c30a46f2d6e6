"""What one trial of a protocol came to."""

from typing import NamedTuple


class Trial(NamedTuple):
    """Whether the fault struck at all, and what it cost that it must not cost; nothing, it is to be hoped."""

    struck: bool
    failure: str = ""
