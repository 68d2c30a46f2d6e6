"""What ends a program by design: input that a person can mend, and a training that went wrong."""


class InputError(ValueError):
    """Bad input, told in one line: where it is, what is wrong, what to do.

    >>> str(InputError("train.csv:17", "pixel5 is 256, not 0 to 255", "remove the row"))
    'train.csv:17: pixel5 is 256, not 0 to 255. Fix: remove the row.'
    """

    def __init__(self, place: object, problem: str, fix: str):
        super().__init__(printable(f"{place}: {problem}. Fix: {fix}."))
        self.place, self.problem, self.fix = place, problem, fix


def printable(text: str) -> str:
    """The same on one line, and harmless to a terminal: names of files may hold anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def brief(error: BaseException) -> str:
    """What a library's error says, in part of a line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 60 else f"{text[:60]} ..."


class DivergedError(ArithmeticError):
    """A value of a training is infinite or not a number. Nothing of it was saved."""
