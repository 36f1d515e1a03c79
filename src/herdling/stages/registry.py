"""What a stage is, and the run of one.

A stage is a class of settings with a `run` method that tells the method in order. The decorator makes the settings strict, and names what the stage makes:

    @stage("sft", output="model")
    class Sft:
        model: ModelInput
        epochs: int = 2
        def run(self, run: StageRun) -> None: ...

Inputs are found by the type of the field (`ModelInput`, ...), so the graph of a recipe needs no second declaration. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, cast, dataclass_transform

from herdling.base.artifact import Artifact
from herdling.base.decode import Input, settings
from herdling.base.errors import LineageError, SettingsError, did_you_mean
from herdling.base.progress import Progress, SilentProgress

# A reference to an artifact: `@stage` of the same recipe, or a path. The mark tells the graph which kinds fit.
# Dialogs stand in data and in samples (what a model of ours said, chosen by a reward), comparisons in rounds and in samples; documents in data alone.
DataInput = Annotated[str, Input("data", "samples")]
DocumentsInput = Annotated[str, Input("data")]
TokenizerInput = Annotated[str, Input("tokenizer")]
TokensInput = Annotated[str, Input("tokens")]
DataMixInput = Annotated[str, Input("data_mix")]
ScalingLawInput = Annotated[str, Input("scaling_law")]
# An export is a model folder too, so it may stand wherever a model may.
ModelInput = Annotated[str, Input("model", "export")]
ComparisonsInput = Annotated[str, Input("comparisons", "samples")]
RewardInput = Annotated[str, Input("reward")]
SamplesInput = Annotated[str, Input("samples")]
EvaluationInput = Annotated[str, Input("evaluation")]
AnyInput = Annotated[str, Input()]

# kind -> module. One verb a file; the order is that of the life cycle.
MODULES = {
    "prepare_data": "herdling.stages.prepare_data",
    "train_tokenizer": "herdling.stages.train_tokenizer",
    "tokenize": "herdling.stages.tokenize",
    "scaling_laws": "herdling.stages.scaling_laws",
    "choose_mix": "herdling.stages.choose_mix",
    "pretrain": "herdling.stages.pretrain",
    "sft": "herdling.stages.sft",
    "prepare_comparisons": "herdling.stages.prepare_comparisons",
    "collect": "herdling.stages.collect",
    "wait_for_round": "herdling.stages.wait_for_round",
    "reward": "herdling.stages.reward",
    "ppo": "herdling.stages.ppo",
    "dpo": "herdling.stages.dpo",
    "rejection_sampling": "herdling.stages.rejection_sampling",
    "context_distillation": "herdling.stages.context_distillation",
    "ghost_attention": "herdling.stages.ghost_attention",
    "select_dialogs": "herdling.stages.select_dialogs",
    "average": "herdling.stages.average",
    "average_rewards": "herdling.stages.average",
    "judge": "herdling.stages.judge",
    "evaluate": "herdling.stages.evaluate",
    "retention": "herdling.stages.retention",
    "export": "herdling.stages.export",
    "report": "herdling.stages.report",
}


class Stage(Protocol):
    """What every stage offers: its kind, what it makes, and `run`."""

    kind: ClassVar[str]
    output: ClassVar[str]

    def run(self, run: StageRun) -> None:
        """Do the work, into `run.folder`."""
        ...


T = TypeVar("T")
STAGES: dict[str, type[Stage]] = {}


@dataclass_transform(frozen_default=True, kw_only_default=True)
def stage(kind: str, *, output: str) -> Callable[[type[T]], type[T]]:
    """Register a class as the stage of this kind, making artifacts of kind `output`."""

    def register(cls: type[T]) -> type[T]:
        made = settings(cls)
        made.kind, made.output = kind, output  # type: ignore[attr-defined]
        STAGES[kind] = cast(type[Stage], made)
        return made

    return register


def stage_class(kind: str, where: str) -> type[Stage]:
    """Return the stage of this kind. Raises `SettingsError` with the nearest name when there is none."""
    if kind not in MODULES:
        raise SettingsError(f"{where}: no stage of kind {kind!r}{did_you_mean(kind, MODULES)}; there are: {', '.join(MODULES)}")
    import_module(MODULES[kind])
    return STAGES[kind]


@dataclass(slots=True, kw_only=True)
class StageRun:
    """One run of one stage: where to write, what to read, and whom to tell.

    `folder` survives an interruption: a stage that is run again finds there what it had saved. It becomes the artifact when `run` returns.
    """

    name: str
    folder: Path
    seed: int
    inputs: Mapping[str, Path] = field(default_factory=dict)
    """Reference as written in the settings -> folder or file."""
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    """The same references, where they are artifacts of ours."""
    progress: Progress = field(default_factory=SilentProgress)
    stop_requested: Callable[[], bool] = lambda: False
    """True once the user asked to stop: save, then raise `Stopped`."""
    summary: dict[str, Any] = field(default_factory=dict)
    """Small numbers for the manifest and the table at the end."""
    recorded: dict[str, str] = field(default_factory=dict)

    def input(self, reference: str) -> Path:
        """Return the folder (or file) that a reference of the settings names."""
        return self.inputs[reference]

    def record(self, *, tokenizer: str = "", chat_template: str = "") -> None:
        """Write fingerprints of the tokenizer and the chat template into the manifest."""
        self.recorded |= {name: value for name, value in (("tokenizer", tokenizer), ("chat_template", chat_template)) if value}

    def check_tokenizers(self) -> None:
        """Check that all inputs were made with one tokenizer. Raises `LineageError` naming the two that differ."""
        made_with = [(reference, artifact.manifest["tokenizer"]) for reference, artifact in self.artifacts.items() if artifact.manifest.get("tokenizer")]
        for reference, fingerprint in made_with[1:]:
            if fingerprint != made_with[0][1]:
                first, expected = made_with[0]
                raise LineageError(
                    f"{self.name}: {reference} was made with the tokenizer {fingerprint[:12]}, {first} with {expected[:12]}."
                    " Token ids mean different texts: make both from one tokenizer"
                )
