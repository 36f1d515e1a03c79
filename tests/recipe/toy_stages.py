"""Two small real stages for the tests of recipes: one writes words, one counts them."""

from __future__ import annotations

from typing import Annotated

from herdling.base.decode import Volatile
from herdling.base.errors import Stopped
from herdling.stages.registry import MODULES, DataInput, StageRun, stage

MODULES.setdefault("toy_words", __name__)
MODULES.setdefault("toy_count", __name__)


@stage("toy_words", output="data")
class ToyWords:
    """Write some words."""

    words: tuple[str, ...] = ("a", "b")
    """What to write."""
    separator: str = " "
    """What to write between them."""
    stop_after: Annotated[int, Volatile()] = 99
    """Pretend that the user stops after so many words."""
    tokenizer: Annotated[str, Volatile()] = ""
    """A tokenizer fingerprint to record."""

    def run(self, run: StageRun) -> None:
        """Write one word a time, going on after those that stand there."""
        path = run.folder / "words.txt"
        done = path.read_text().split() if path.exists() else []
        for index in range(len(done), len(self.words)):
            if index >= self.stop_after:
                raise Stopped(f"{run.name}: stopped after {index} words")
            path.write_text(self.separator.join([*self.words[: index + 1]]))
        run.record(tokenizer=self.tokenizer)
        run.summary["resumed_from"] = len(done)


@stage("toy_count", output="report")
class ToyCount:
    """Count the words of other stages."""

    of: tuple[DataInput, ...]
    """The stages to read."""

    def run(self, run: StageRun) -> None:
        """Write the number of words."""
        total = sum(len((run.input(ref) / "words.txt").read_text().split()) for ref in self.of)
        (run.folder / "count.txt").write_text(str(total))
