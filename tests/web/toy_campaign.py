"""A small annotation server with real parts: a store on SQLite, a generator that answers by rule, campaigns of each kind.

python -m tests.web.toy_campaign FOLDER PORT [URL]     serves it on loopback until killed; people as in `toy_store`
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from herdling.base.errors import RemoteError
from herdling.base.seeds import stream
from herdling.preference.accounts import Role
from herdling.preference.campaign import CampaignConfig, VariantConfig
from herdling.preference.store import Store
from herdling.types import Completion, Dialog, Message, Sampling
from herdling.web.app import annotation_app
from herdling.web.desk import Desk, Entrance
from herdling.web.sampler import Sampler

PASSWORD = "correct horse battery"
GUIDELINES = "# Be fair\n\nChoose the answer that *helps* more. <script>alert(1)</script>\n\n- true\n- clear\n"
BEGINNINGS = ("Surely.", "Good question.", "Let me see.", "In short:", "Well,", "Gladly.")
SECRET_WORDS = ("large-secret", "small-secret", "0.71", "1.13")
"""What a page must never tell: the names and temperatures of the variants."""


class Clerk:
    """A generator that answers by rule: other words for another model or seed, and on demand the same words, none, slowly, or not at all."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fingerprint = f"clerk {name}"

    def chat_batch(self, dialogs: Sequence[Dialog], sampling: Sampling | Sequence[Sampling]) -> list[Completion]:
        each = [sampling] * len(dialogs) if isinstance(sampling, Sampling) else sampling
        return [self._answer(dialog, one) for dialog, one in zip(dialogs, each, strict=True)]

    def _answer(self, dialog: Dialog, sampling: Sampling) -> Completion:
        asked = dialog.messages[-1].content
        if "broken" in asked:
            raise RemoteError(f"{self.name}: refused with 503: out of memory. Start it again")
        if "slow" in asked:
            time.sleep(1.5)
        chance = stream(sampling.seed or 0, self.name)
        text = f"{BEGINNINGS[int(chance.integers(len(BEGINNINGS)))]} You asked “{asked[:200]}”, and my number is {int(chance.integers(10**9))}."
        text = "The same." if "same" in asked else "" if "silence" in asked else text
        text += " " + "A longer explanation follows, in many words. " * 12 if "long" in asked else ""
        message = Message(role="assistant", content=text.strip())
        reason = "context_full" if "overflow" in asked else "end_of_turn"
        return Completion(message=message, stop_reason=reason, model=self.name, model_fingerprint=self.fingerprint, sampling=sampling)


def toy_config(name: str = "helpful", **changes: Any) -> CampaignConfig:
    """A helpfulness campaign without chance: no hidden items unless asked for."""
    models = {"large-secret": VariantConfig(model="large", temperatures=(0.71,)), "small-secret": VariantConfig(model="small", temperatures=(1.13,))}
    config = CampaignConfig(name=name, kind="helpfulness", guidelines=GUIDELINES, models=models, gold_share=0.0, repeat_share=0.0)
    return replace(config, **changes)


def toy_desk(store: Store, folder: Path, entrance: Entrance | None = None) -> Desk:
    """A desk whose models are clerks."""
    sampler = Sampler({name: lambda name=name: Clerk(name) for name in ("large-secret", "small-secret")})  # type: ignore[misc]
    return Desk(store=store, sampler=sampler, rounds=folder, entrance=entrance)


def toy_store(url: str) -> Store:
    """A store with three people; opened again, it is as it was."""
    store = Store(url)
    people: tuple[tuple[str, Role], ...] = (("ada", "admin"), ("bob", "annotator"), ("cleo", "annotator"), ("rev", "reviewer"))
    there = {user.name for user in store.accounts.users()}
    for name, role in people:
        if name not in there:
            store.accounts.add(name, PASSWORD, role)
    return store


def toy_app(folder: Path, url: str | None = None) -> ASGIApp:
    """The whole server: helpfulness with edits, safety, and a queue without own prompts."""
    store = toy_store(url or f"sqlite:///{folder / 'preferences.db'}")
    store.campaigns.put(toy_config())
    store.campaigns.put(toy_config("edits", style="llama3"))
    store.campaigns.put(toy_config("safe", kind="safety"))
    store.campaigns.put(toy_config("queue", own_prompts=False))
    prompts = [Dialog(id=str(n), messages=(Message(role="user", content=f"Question {n} of the queue?"),)) for n in range(20)]
    store.campaigns.add_prompts("queue", prompts, source="toy")
    return annotation_app(toy_desk(store, folder / "rounds"))


def serve(folder: str, port: str, url: str | None = None) -> None:
    """Serve until killed."""
    import uvicorn

    uvicorn.run(toy_app(Path(folder), url), host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    serve(*sys.argv[1:])
