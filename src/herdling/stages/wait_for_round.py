"""The stage wait_for_round: people judge the newest models, and the recipe goes on by itself once their round is closed.

Reads the store that `herdling annotate RUN` writes to; writes what the closed round froze: `comparisons/train.jsonl`, `comparisons/test.jsonl`, `ledger.json`,
with the same fingerprint. Computes nothing while it waits, and holds no model. It can be stopped or killed at any time: what people judge stands in the store,
and the same command waits on.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from herdling.base.artifact import Artifact
from herdling.base.comparison_records import read_comparisons
from herdling.base.decode import Volatile
from herdling.base.errors import MissingExtraError, SettingsError, Stopped
from herdling.preference.place import preferences_of, store_url
from herdling.stages.registry import ModelInput, StageRun, stage

if TYPE_CHECKING:
    from herdling.preference.store import Store

POLL_SECONDS = 1.0
"""How soon it is seen that a round was closed, and that the user asked to stop."""
DEFAULT_CAMPAIGN = "helpful"  # what `herdling annotate RUN` begins where there is no campaign


@stage("wait_for_round", output="comparisons")
class WaitForRound:
    """Wait for people's judgements (Llama 2, section 3.2.1: batches of a week; Llama 3, section 4.2: a batch a round): answers of the models of this round are
    judged in the browser (`herdling annotate RUN`) until the round is closed there, or with `--close-round`; then its frozen comparisons are taken over.
    """

    models: dict[str, ModelInput]
    """Name -> a chat model whose answers are judged in this round. The round begins when all of them are made."""
    round: Annotated[int, Field(ge=1)]
    """Which round of the campaign, counted from 1."""
    campaign: str = DEFAULT_CAMPAIGN
    """The campaign's name. Helpfulness and safety are campaigns of their own, so each has its own stage."""
    store: str | None = None
    """The database as for `herdling annotate --store`, without a password (PostgreSQL reads PGPASSWORD). Unset: the run's own."""
    wait: Annotated[bool, Volatile()] = True
    """False: stop at once where the round is still open, and say how it stands."""

    def run(self, run: StageRun) -> None:
        """Look until the round is closed, then take its artifact over."""
        url = self.store or store_url(run.folder.parent)
        _check_url(url, f"stages.{run.name}.store")
        run.progress.begin(None, "judgements")
        told, counted = "", -1
        store: Store | None = None
        try:
            while True:
                store = store or _open(url)
                count, what_next = self._stands(run, store)
                if store is not None and not what_next:
                    artifact = store.rounds.close(self.campaign, preferences_of(run.folder.parent), number=self.round)
                    break
                if what_next != told:
                    run.progress.note(what_next)
                if count != counted:
                    run.progress.update(count, campaign=self.campaign, round=self.round)
                told, counted = what_next, count
                if run.stop_requested() or not self.wait:
                    raise Stopped(f"{run.name}: {what_next} The same command waits on, and goes on by itself then")
                time.sleep(POLL_SECONDS)
        finally:
            if store is not None:
                store.close()
        self._take_over(run, artifact)

    def _stands(self, run: StageRun, store: Store | None) -> tuple[int, str]:
        """Return how many judgements the round has, and what has to happen next: an empty text once it is closed."""
        folder = shlex.quote(str(run.folder.parent))
        variants = " ".join(f"--model {shlex.quote(f'{name}={run.input(reference)}')}" for name, reference in self.models.items())
        command = f"herdling annotate {folder} {variants}" + (f" --store {shlex.quote(self.store)}" if self.store else "")
        if store is None or self.campaign not in store.campaigns.names():
            asked = command + ("" if self.campaign == DEFAULT_CAMPAIGN else " --campaign FILE")
            return 0, f"the campaign {self.campaign!r} has not begun. Begin it, and judge: {asked}."
        rounds = store.rounds.rounds(self.campaign)
        found = next((one for one in rounds if one.number == self.round), None)
        if found is None:
            return 0, f"round {self.round} of {self.campaign} opens when round {rounds[-1].number} is closed. Judge: {command}."
        if found.closed is not None:
            return found.num_judgements, ""
        return found.num_judgements, f"round {found.name} is open. Judge: {command}. Enough judged? Close it there, or add --close-round."

    def _take_over(self, run: StageRun, artifact: Artifact) -> None:
        """Copy what the round froze, and count whose answers were judged."""
        from herdling.generate.fingerprint import model_fingerprint

        for name in artifact.manifest["files"]:
            (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.folder / name, run.folder / name)
        named = {model_fingerprint(run.input(reference)) for reference in self.models.values()}
        comparisons = [one for split in ("train", "test") for one in read_comparisons(artifact.folder, split)]
        answers = [one.responses[index] for one in comparisons for index in one.judged]
        others = Counter(answer.model for answer in answers if answer.model_fingerprint not in named)
        if others:
            listed = ", ".join(f"{name or 'no name'} ({count:,})" for name, count in sorted(others.items()))
            run.progress.note(f"{sum(others.values()):,} of {len(answers):,} judged answers are not of the models that this round names: {listed}")
        run.summary |= {"comparisons": len(comparisons), "annotators": artifact.manifest["summary"]["annotators"], "answers": len(answers)}
        run.summary |= {"answers_of_other_models": sum(others.values()), "round": artifact.manifest["name"]}


def _check_url(url: str, where: str) -> None:
    """Refuse a password, which would stand in the manifest for everybody to read."""
    address = url.partition("://")[2].partition("@")
    if address[1] and ":" in address[0]:
        raise SettingsError(f"{where}: holds a password, which would be written into the manifest. Leave it out and set PGPASSWORD")


def _open(url: str) -> Store | None:
    """Open the store, or return None where nobody has begun one: to look is not to make."""
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        return None
    try:
        from herdling.preference.store import Store
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "serve", "The stage wait_for_round") from None
    return Store(url)
