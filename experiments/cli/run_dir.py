"""The models of an experiment and the files of its output directory: every name in it is spelled out here only."""

from pathlib import Path
from typing import NamedTuple


class Member(NamedTuple):
    """One model of an ensemble. A student is trained on pseudo-labels in addition to the training rows."""

    family: str
    seed: int
    student: bool = False

    @property
    def name(self) -> str:
        """The name of its directories, such as `resnet-0` or `resnet-0-student`."""
        return f"{self.family}-{self.seed}" + ("-student" if self.student else "")

    @staticmethod
    def parse(name: str) -> "Member":
        """Return the member whose `name` that is. Raises ValueError if there is none."""
        family, seed = name.removesuffix("-student").rsplit("-", 1)
        return Member(family, int(seed), student=name.endswith("-student"))


class RunDir:
    """The paths in an output directory; they need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / "job.json"
        self.lock = path / ".lock"
        self.members = path / "members"
        self.pseudo_labels = path / "pseudo_labels"
        self.ensemble = path / "ensemble"
        self.submission = path / "submission.csv"
        self.report = path / "report.json"
        self.page = path / "report.html"
        self.results = (self.submission, self.report, self.page)

    def member(self, member: Member) -> Path:
        return self.members / member.name

    def predictions(self, member: Member) -> Path:
        return self.path / "predictions" / member.name

    def tensorboard(self, member: Member) -> Path:
        return self.path / "tensorboard" / member.name
