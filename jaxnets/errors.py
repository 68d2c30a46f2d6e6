"""The one error that a person can mend."""


class InputError(ValueError):
    """Bad input, told in one line: where it is, what is wrong, what to do.

    >>> str(InputError("train.csv:17", "pixel5 is 256, not 0 to 255", "remove the row"))
    'train.csv:17: pixel5 is 256, not 0 to 255. Fix: remove the row.'
    """

    def __init__(self, place: object, problem: str, fix: str):
        super().__init__(f"{place}: {problem}. Fix: {fix}.")
