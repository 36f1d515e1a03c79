"""Run a recipe: each stage in order, skipped when done, resumed when interrupted, refused when it was made from other settings.

Everything of a run stands in `runs/NAME/`: a folder a stage, `recipe.json` (every setting written out). A stage works in `.STAGE.partial` and is renamed into
place with its manifest, so a kill at any moment leaves either a finished artifact or one that goes on. One process at a time: the folder is locked.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from herdling.base.artifact import (
    MANIFEST,
    Artifact,
    file_digests,
    file_fingerprint,
    is_artifact,
    new_manifest,
    read_artifact,
    remove,
    storage_error,
    value_fingerprint,
    write_json_atomic,
)
from herdling.base.decode import Input, inputs_of
from herdling.base.errors import DataError, LineageError, LockedError, SettingsError
from herdling.base.progress import Progress, SilentProgress
from herdling.base.units import format_seconds
from herdling.recipe.graph import downstream_of, needed_for
from herdling.recipe.lineage import RECORD, Identity, State, begin_attempt, identity, partial_folder, state_of, write_record
from herdling.recipe.recipe import Recipe
from herdling.stages.registry import Stage, StageRun

ProgressFactory = Callable[[str, str], AbstractContextManager[Progress]]


@contextmanager
def _silent(name: str, position: str) -> Iterator[Progress]:
    yield SilentProgress()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Runs the stages of one recipe into one folder."""

    recipe: Recipe
    runs: Path = Path("runs")
    """Folder of all runs."""
    progress: ProgressFactory = _silent
    """Called with (stage name, position such as "3/8") for each stage."""
    stop_requested: Callable[[], bool] = lambda: False
    say: Callable[[str], None] = lambda line: None
    """Told one line for each stage: skipped, resumed, done."""
    again: Collection[str] = field(default_factory=frozenset)
    """Stages to make again whatever stands there (`--force`); what depends on them follows where its inputs changed."""

    @property
    def folder(self) -> Path:
        """The folder of this run."""
        return self.runs / self.recipe.name

    def run(self, names: Collection[str] = ()) -> dict[str, Artifact]:
        """Run these stages and all that they read (all stages when none is named). Returns the artifacts by stage name.

        Raises:
            LineageError: a finished or interrupted stage was made from other settings; nothing is changed.
            LockedError: another process works on this run.
            Stopped: the user asked to stop; the same command goes on.
        """
        order = needed_for(names or self.recipe.stages, self.recipe.stages)
        for name in self.again:
            needed_for([name], self.recipe.stages)
        replaceable = downstream_of(self.again, self.recipe.stages)
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            write_json_atomic(self.folder / "recipe.json", self.recipe.to_dict())
            artifacts: dict[str, Artifact] = {}
            for index, name in enumerate(order, start=1):
                artifacts[name] = self._stage(name, f"{index}/{len(order)}", artifacts, replaceable)
        return artifacts

    def plan(self, names: Collection[str] = ()) -> list[tuple[str, State, list[str]]]:
        """Say for each stage, in order, what `run` would do, changing nothing. After a stage to do, what reads it is to do as well.

        A file or folder that is not there yet is told in a line of its stage, so that a recipe can be looked at before its data lies where it belongs.
        """
        artifacts: dict[str, Artifact] = {}
        planned = []
        for name in needed_for(names or self.recipe.stages, self.recipe.stages):
            stage = self.recipe.stages[name]
            known = all(not ref.startswith("@") or ref[1:] in artifacts for _, ref, _ in inputs_of(stage))
            state, lines = self._state_or_fault(name, stage, artifacts) if known and name not in self.again else (State.TO_DO, [])
            if state is State.DONE:
                artifacts[name] = read_artifact(self.folder / name)
            planned.append((name, state, lines))
        return planned

    def _state_or_fault(self, name: str, stage: Stage, artifacts: Mapping[str, Artifact]) -> tuple[State, list[str]]:
        try:
            return state_of(self.folder / name, self._identity(name, stage, artifacts))
        except (SettingsError, DataError) as error:
            return State.TO_DO, str(error).splitlines()

    def _identity(self, name: str, stage: Stage, artifacts: Mapping[str, Artifact]) -> Identity:
        inputs = {reference: fingerprint for reference, (_, _, fingerprint) in self._inputs(name, stage, artifacts).items()}
        # Files of the user that a stage reads without an `Input` mark: a changed text makes a finished stage differ, as a changed setting does.
        inputs |= getattr(stage, "outside_inputs", dict)()
        return identity(stage, self.recipe.seed, inputs)

    def _stage(self, name: str, position: str, artifacts: Mapping[str, Artifact], replaceable: Collection[str]) -> Artifact:
        stage, folder = self.recipe.stages[name], self.folder / name
        wanted = self._identity(name, stage, artifacts)
        state, lines = state_of(folder, wanted)
        if name in self.again or (state is State.DIFFERS and name in replaceable):
            remove(folder)
            remove(partial_folder(folder))
            state = State.TO_DO
        if state is State.DIFFERS:
            raise self._refusal(name, lines)
        if state is State.DONE:
            self.say(f"{position} {name}: done before, in {format_seconds(read_artifact(folder).manifest['seconds'])}")
            return read_artifact(folder)
        if state is State.INTERRUPTED:
            self.say(f"{position} {name}: goes on where it was interrupted")
        return self._make(name, position, stage, wanted, artifacts)

    def _make(self, name: str, position: str, stage: Stage, wanted: Identity, artifacts: Mapping[str, Artifact]) -> Artifact:
        """Run one stage in its partial folder, then write the manifest and rename."""
        folder = self.folder / name
        partial, before = begin_attempt(folder, wanted, now=time.time())
        read = self._inputs(name, stage, artifacts)
        for _, artifact, _ in read.values():
            if artifact is not None:
                artifact.verify()
        started = time.monotonic()
        with self.progress(name, position) as progress:
            run = StageRun(
                name=name,
                folder=partial,
                seed=self.recipe.seed,
                inputs={reference: path for reference, (path, _, _) in read.items()},
                artifacts={reference: artifact for reference, (_, artifact, _) in read.items() if artifact is not None},
                progress=progress,
                stop_requested=self.stop_requested,
            )
            run.check_tokenizers()
            try:
                stage.run(run)
                seconds = before + time.monotonic() - started
                write_json_atomic(partial / MANIFEST, manifest(name, stage, wanted, run, partial, seconds))
                partial.rename(folder)
                (folder / RECORD).unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(partial, error) from error
            finally:
                if partial.is_dir() and not is_artifact(partial):
                    write_record(folder, wanted, seconds=before + time.monotonic() - started)
        self.say(f"{position} {name}: done in {format_seconds(seconds)}")
        return read_artifact(folder)

    def _inputs(self, name: str, stage: Stage, artifacts: Mapping[str, Artifact]) -> dict[str, tuple[Path, Artifact | None, str]]:
        """Return reference -> (path, artifact if it is one of ours, fingerprint of the contents)."""
        found: dict[str, tuple[Path, Artifact | None, str]] = {}
        for setting, reference, mark in inputs_of(stage):
            if reference.startswith("@"):
                artifact = artifacts[reference.removeprefix("@")]
                found[reference] = (artifact.folder, artifact, artifact.fingerprint)
            else:
                found[reference] = _outside(f"stages.{name}.{setting}", reference, mark)
        return found

    def _refusal(self, name: str, lines: list[str]) -> LineageError:
        recipe = self.recipe.path or "RECIPE"
        command = f"herdling run {recipe} --force {name}"
        listed = "".join(f"\n  {line}" for line in lines)
        return LineageError(
            f"{self.folder / name}: was made from other settings, so it is neither used nor overwritten:{listed}\n"
            f"Make it and what follows again with: {command}",
            next_command=command,
        )


def _outside(where: str, reference: str, mark: Input) -> tuple[Path, Artifact | None, str]:
    """Look at an input that is no stage of this recipe: an artifact of another run, or a file or folder of the user's."""
    path = Path(reference).expanduser()
    if not path.exists():
        raise SettingsError(f"{where}: {reference}: no such file or folder. Name a stage as @NAME, or an existing path")
    if is_artifact(path):
        artifact = read_artifact(path)
        if not mark.accepts(artifact.kind):
            raise SettingsError(f"{where}: {reference} holds {artifact.kind}, expected {mark}")
        return path, artifact, artifact.fingerprint
    return path, None, value_fingerprint(file_digests(path)) if path.is_dir() else file_fingerprint(path)


def manifest(name: str, stage: Stage, made_from: Identity, run: StageRun, folder: Path, seconds: float) -> dict[str, Any]:
    """Return the manifest of a stage that is done."""
    tokenizers = [artifact.manifest.get("tokenizer", "") for artifact in run.artifacts.values()]
    return new_manifest(
        folder,
        name=name,
        output=stage.output,
        made_from=made_from.to_dict(),
        parents={reference: str(path) for reference, path in run.inputs.items()},
        summary=run.summary,
        seconds=seconds,
        tokenizer=run.recorded.get("tokenizer") or next(filter(None, tokenizers), ""),
        chat_template=run.recorded.get("chat_template", ""),
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder. The system frees the lock when its holder dies, however it dies. Raises `LockedError` at once when it is held."""
    path = folder / ".lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = path.with_name(".lock.holder")
        who = holder.read_text(encoding="utf-8").strip() if holder.is_file() else "another process"
        raise LockedError(f"{folder}: {who} works here now. Wait for it, or stop it, and run the same command again") from None
    try:
        path.with_name(".lock.holder").write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        lock.release()
