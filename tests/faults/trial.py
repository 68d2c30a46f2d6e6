"""The result of one trial of a protocol."""

from typing import NamedTuple


class Trial(NamedTuple):
    """Whether the fault took effect, and what went wrong afterwards; empty if nothing did."""

    struck: bool
    failure: str = ""
