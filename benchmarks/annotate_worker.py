"""The server that `bench_annotate.py` asks: real store, real pages, answers by rule at once, so that only the server is timed.

python benchmarks/annotate_worker.py URL PORT NUM_ANNOTATORS NUM_PROMPTS
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from herdling.preference.campaign import CampaignConfig, VariantConfig
from herdling.preference.store import Store
from herdling.types import Completion, Dialog, Message, Sampling
from herdling.web.app import annotation_app
from herdling.web.desk import Desk
from herdling.web.sampler import Sampler

CAMPAIGN, PASSWORD = "load", "only for the benchmark"
ANSWER = "An answer of the usual length, which somebody reads before judging it. " * 8


class Instant:
    """Answers at once: the model's name and the seed make the two differ."""

    def __init__(self, name: str) -> None:
        self.name = self.fingerprint = name

    def chat_batch(self, dialogs: Sequence[Dialog], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        each = [sampling] * len(dialogs) if isinstance(sampling, Sampling) else sampling
        texts = [f"{ANSWER} ({self.name}, {one.seed})" for one in each]
        return [Completion(message=Message(role="assistant", content=text), stop_reason="end_of_turn", model=self.name) for text in texts]


def prepared(url: str, num_annotators: int, num_prompts: int) -> Store:
    """Open the store with its annotators, campaign and queue; opened again after a kill, it is as it was."""
    store = Store(url)
    if store.campaigns.names():
        return store
    models = {name: VariantConfig(model=name) for name in ("one", "two")}
    store.campaigns.put(CampaignConfig(name=CAMPAIGN, kind="helpfulness", guidelines="Choose.", models=models))
    prompts = (Dialog(id=str(number), messages=(Message(role="user", content=f"Question {number:,} of the queue?"),)) for number in range(num_prompts))
    store.campaigns.add_prompts(CAMPAIGN, prompts, source="benchmark")
    for number in range(num_annotators):
        store.accounts.add(f"annotator {number}", PASSWORD, "annotator")
    store.accounts.add("admin", PASSWORD, "admin")
    return store


if __name__ == "__main__":
    store = prepared(sys.argv[1], int(sys.argv[3]), int(sys.argv[4]))
    sampler = Sampler({name: lambda name=name: Instant(name) for name in ("one", "two")})
    app = annotation_app(Desk(store=store, sampler=sampler, rounds=Path("unused")))
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
