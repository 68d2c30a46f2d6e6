"""Exceptions that end a program by design: invalid user input, and a training run that diverged."""


class InputError(ValueError):
    """Invalid user input; the message states location, problem and fix on one line.

    >>> str(InputError("train.csv:17", "pixel5 is 256, not 0 to 255", "remove the row"))
    'train.csv:17: pixel5 is 256, not 0 to 255. Fix: remove the row.'
    """

    def __init__(self, location: object, problem: str, fix: str):
        super().__init__(printable(f"{location}: {problem}. Fix: {fix}."))
        self.location, self.problem, self.fix = location, problem, fix


class DivergedError(ArithmeticError):
    """A value of a training run is NaN or infinite. Nothing of it was saved."""


def printable(text: str) -> str:
    r"""Return `text` on one line, control characters escaped: file names may hold anything.

    >>> printable("a\nb")
    'a\\nb'
    """
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def short_message(error: BaseException) -> str:
    """Return an exception's message as part of one line, at most 60 characters of it."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 60 else f"{text[:60]} ..."
