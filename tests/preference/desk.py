"""A small campaign to test with: two models that say who they are, prompts q0, q1, ..., annotators Ann and Bob."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from herdling.preference.campaign import CampaignConfig, VariantConfig
from herdling.preference.judgements import Judgement, Submitted
from herdling.preference.schema import users
from herdling.preference.store import Store
from herdling.preference.tasks import Assignment, Draw
from herdling.types import Comparison, Completion, Dialog, Message, Sampling

LEFT = Judgement(side="left", rating="better")
MODELS = {"a": VariantConfig(model="models/a", temperatures=(0.5, 1.0)), "b": VariantConfig(model="models/b", temperatures=(0.5, 1.0))}
PLAIN = CampaignConfig(name="helpful", kind="helpfulness", guidelines="Prefer what helps.", models=MODELS, gold_share=0.0, repeat_share=0.0)


@dataclass
class Clock:
    """Seconds that pass only when somebody says so."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Desk:
    """A store and who works with it."""

    store: Store
    clock: Clock
    url: str
    ann: int
    bob: int

    @classmethod
    def furnish(cls, store: Store, clock: Clock, url: str) -> Desk:
        """Add the two annotators. They never log in here, so their hash is none: hashing passwords takes time on purpose."""
        return cls(store, clock, url, add_user(store, "ann"), add_user(store, "bob"))

    def campaign(self, *, prompts: int = 0, **changes: Any) -> str:
        """Begin a campaign with prompts q0, q1, ... in its queue."""
        config = replace(PLAIN, **changes)
        self.store.campaigns.put(config)
        if prompts:
            assert self.store.campaigns.add_prompts(config.name, map(prompt, range(prompts)), source="test").added == prompts
        return config.name

    def next(self, campaign: str, user: int) -> Assignment:
        """Return the next task, answered by the models."""
        held = self.store.tasks.next(campaign, user)
        assert held is not None
        return self.answered(held, user)

    def answered(self, held: Assignment, user: int) -> Assignment:
        """Let the models answer if they did not yet."""
        if held.draws is None:
            return held
        first, second = held.draws
        return self.store.tasks.fill(held.task, user, held.lease, (answer(first, held.task), answer(second, held.task)))

    def judge(self, held: Assignment, user: int, judgement: Judgement = LEFT, *, key: str = "") -> Submitted:
        """Submit a judgement, under a key of the task unless told."""
        return self.store.judgements.submit(held.task, user, held.lease, judgement, key=key or f"judge-{held.task}")

    def count(self, statement: str, **values: Any) -> int:
        """Ask the database itself."""
        with self.store.tasks._database.read() as tx:
            return int(tx.execute(sa.text(statement), values).scalar_one())


def add_user(store: Store, name: str) -> int:
    """Insert an annotator who cannot log in. Returns the number."""
    values = {"name": name, "role": "annotator", "password_hash": "none", "pseudonym": f"annotator-{name}", "active": True, "created": 0.0}
    made = store.accounts._database.write(lambda tx: tx.execute(sa.insert(users).values(values)).inserted_primary_key)
    assert made is not None
    return int(made[0])


def prompt(number: int) -> Dialog:
    """Return the prompt q<number>."""
    return Dialog(id=f"prompt-{number}", messages=(Message(role="user", content=f"q{number}"),))


def answer(draw: Draw, task: int) -> Completion:
    """Return what the model of a draw says: itself, how hot it is, and to which task."""
    text = f"{draw.model} at {draw.temperature} on {task} ({draw.seed})"
    sampling = Sampling(temperature=draw.temperature, seed=draw.seed)
    message = Message(role="assistant", content=text)
    return Completion(message=message, stop_reason="end_of_turn", model=draw.model, model_fingerprint=f"weights of {draw.model}", sampling=sampling)


def gold(number: int, *, best: int = 0) -> Comparison:
    """Return an item whose known best response is the first (0) or the second (1)."""
    said = [Completion(message=Message(role="assistant", content=f"gold {number} {which}"), stop_reason="end_of_turn") for which in "xy"]
    dialog = Dialog(id=f"gold-{number}", messages=(Message(role="user", content=f"gold question {number}"),))
    return Comparison(id=f"gold-{number}", dialog=dialog, responses=tuple(said), ranking=(best, 1 - best), rating="significantly")
