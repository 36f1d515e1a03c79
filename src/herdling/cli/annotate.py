"""`herdling annotate RUN`: collect people's preferences in the browser, and freeze a round. Starts without torch; a model is loaded by its first prompt.

Everything lies in `RUN/preferences`: the database, unless `--store` names another, and the rounds that were closed.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from importlib.resources import files
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from herdling.base.artifact import beside, is_artifact, read_artifact
from herdling.base.environment import api_key
from herdling.base.errors import MissingExtraError, SettingsError
from herdling.preference.place import preferences_of, store_url

if TYPE_CHECKING:
    from herdling.generate.generator import Generator
    from herdling.preference.campaign import CampaignConfig, VariantConfig
    from herdling.preference.store import Store
    from herdling.web.desk import Entrance

LOCAL_ADMIN = "local"


def annotate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder: its chat models are compared, its preferences kept there.")],
    model: Annotated[list[str] | None, typer.Option("--model", metavar="NAME=PATH_OR_URL", help="A model to compare; an http address is a server.")] = None,
    campaign: Annotated[list[Path] | None, typer.Option("--campaign", metavar="FILE", help="A campaign's settings (TOML), begun or changed.")] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="Prompts for the queue (.jsonl: prompt or messages).")] = None,
    gold: Annotated[Path | None, typer.Option("--gold", help="Comparisons with a known answer (.jsonl), hidden in the queue.")] = None,
    store: Annotated[str | None, typer.Option("--store", metavar="URL", help="sqlite:///PATH or postgresql://USER@HOST/NAME.")] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 8017,
    single_user: Annotated[bool | None, typer.Option("--single-user/--team", help="Whether the link logs you in (default on loopback).")] = None,
    close_round: Annotated[bool, typer.Option("--close-round", help="Freeze the open round as an artifact, and serve nothing.")] = False,
) -> None:
    """Collect preferences of people: judge two answers in the browser."""
    try:
        from herdling.preference.store import Store
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "serve", "herdling annotate") from None

    if not run.is_dir() and not model and not campaign:
        raise SettingsError(f"{run}: is not there. Name a run's folder, or a new one with --model NAME=PATH_OR_URL")
    folder = preferences_of(run)
    opened = Store(store or store_url(run))
    try:
        begun = begin_campaigns(opened, run, campaign or [], dict(_named(text) for text in model or []), may_begin=not close_round)
        fill_queue(opened, begun, prompts, gold)
        if close_round:
            print(opened.rounds.close(_only(begun, "--close-round"), folder).folder)
        else:
            serve(opened, folder, host, port, single_user=_is_loopback(host) if single_user is None else single_user)
    finally:
        opened.close()


def begin_campaigns(store: Store, run: Path, paths: list[Path], models: Mapping[str, str], *, may_begin: bool) -> list[str]:
    """Put the campaigns of these files into the store; begin one for helpfulness where there are none at all. Return the names that this call is about."""
    if paths:
        configs = [read_campaign(path, run, models) for path in paths]
    elif store.campaigns.names() and not models:
        return store.campaigns.names()
    elif store.campaigns.names():
        configs = [_with_models(store.campaigns.config(name), models) for name in store.campaigns.names()]
    elif may_begin:
        configs = [_campaign({"name": "helpful", "kind": "helpfulness"}, run, models, "--campaign")]
    else:
        raise SettingsError(f"{run}: has no campaign yet, so there is no round to close. Begin one: herdling annotate {run}")
    for config in configs:
        store.campaigns.put(config)
    return [config.name for config in configs]


def read_campaign(path: Path, run: Path, models: Mapping[str, str]) -> CampaignConfig:
    """Read a campaign's file. Models and guidelines that it does not name are the run's, and those that come with herdling."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such campaign file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: is no TOML ({error})") from None
    return _campaign(values, run, models, str(path))


def _campaign(values: dict[str, Any], run: Path, models: Mapping[str, str], where: str) -> CampaignConfig:
    from herdling.base.decode import decode
    from herdling.preference.campaign import CampaignConfig

    if models or "models" not in values:
        values = values | {"models": {name: _variant(place) for name, place in (models or run_models(run)).items()}}
    if "guidelines" not in values and values.get("kind") in ("helpfulness", "safety"):
        values = values | {"guidelines": (files("herdling.web") / "guidelines" / f"{values['kind']}.md").read_text(encoding="utf-8")}
    return decode(CampaignConfig, values, where)


def _with_models(config: CampaignConfig, models: Mapping[str, str]) -> CampaignConfig:
    from herdling.base.decode import decode, encode

    return decode(type(config), encode(config) | {"models": {name: _variant(place) for name, place in models.items()}}, f"campaign {config.name}")


def _variant(place: str) -> dict[str, str]:
    if not place.startswith(("http://", "https://")):
        return {"model": place}
    url, _, name = place.partition("#")
    return {"model": name, "url": url}


def run_models(run: Path) -> dict[str, str]:
    """Return name -> path of the chat models that a run has made; an exported copy only where there is no other.

    Raises:
        SettingsError: the run has none.
    """
    artifacts = [read_artifact(child) for child in sorted(run.iterdir()) if is_artifact(child)] if run.is_dir() else []
    chatting = [artifact for artifact in artifacts if artifact.manifest.get("chat_template")]
    found = [artifact for artifact in chatting if artifact.kind == "model"] or [artifact for artifact in chatting if artifact.kind == "export"]
    if not found:
        raise SettingsError(f"{run}: holds no finished chat model. Run its recipe to the end, or name models: --model NAME=PATH_OR_URL")
    return {artifact.folder.name: str(artifact.folder) for artifact in found}


def fill_queue(store: Store, campaigns: list[str], prompts: Path | None, gold: Path | None) -> None:
    """Add prompts and hidden items of files to the queue, and say what was set aside."""
    from herdling.base.comparison_records import comparison_from_row
    from herdling.base.records import dialog_from_row, read_jsonl
    from herdling.types import Dialog, Message

    def dialog(number: int, row: Mapping[str, Any]) -> Dialog:
        where = f"{prompts}, line {number:,}"
        if isinstance(row.get("prompt"), str):
            return Dialog(id=str(row.get("id", number)), messages=(Message(role="user", content=row["prompt"]),))
        read = dialog_from_row(row, where)
        answered = bool(read.messages) and read.messages[-1].role == "assistant"
        return Dialog(id=read.id, messages=read.messages[:-1] if answered else read.messages, tools=read.tools)

    if prompts is not None:
        added = store.campaigns.add_prompts(_only(campaigns, "--prompts"), [dialog(*line) for line in read_jsonl(prompts)], source=prompts.name)
        _say(f"{prompts}: {added.added:,} prompts added", added.set_aside)
    if gold is not None:
        items = [comparison_from_row(row, f"{gold}, line {number:,}") for number, row in read_jsonl(gold)]
        added = store.campaigns.add_gold(_only(campaigns, "--gold"), items)
        _say(f"{gold}: {added.added:,} hidden items added", added.set_aside)


def _say(text: str, set_aside: Mapping[str, int]) -> None:
    aside = ", ".join(f"{reason} {count:,}" for reason, count in set_aside.items())
    print(text + (f"; set aside: {aside}" if aside else ""), file=sys.stderr)


def serve(store: Store, folder: Path, host: str, port: int, *, single_user: bool) -> None:
    """Serve the pages until stopped."""
    import uvicorn

    from herdling.web.app import annotation_app
    from herdling.web.desk import Desk
    from herdling.web.sampler import Sampler

    with _listening(host, port) as listener:
        port = listener.getsockname()[1]
        entrance = local_entrance(store, folder) if single_user else first_admin(store)
        sampler = Sampler(openers(store))
        app = annotation_app(Desk(store=store, sampler=sampler, rounds=folder, entrance=entrance, cookie=f"herdling_{port}"))
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        way = "" if entrance is None else f"/enter/{entrance.token}" if entrance.name else f"/join/{entrance.token}"
        print(f"{address}{way}", flush=True)
        if way:
            print("The link opens once. Ctrl-C stops; everything is saved, and the same command goes on.", file=sys.stderr)
        if not _is_loopback(host):
            print("Others can reach this address. Put it behind a server with https: without it, passwords cross the network readably.", file=sys.stderr)
        try:
            uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=5)).run(sockets=[listener])
        except KeyboardInterrupt:
            print("stopped; everything is saved", file=sys.stderr)
        finally:
            sampler.close()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        listener.close()
        raise SettingsError(f"--host {host} --port {port}: cannot listen there ({error.strerror}). Choose another port: --port 0 takes a free one") from None
    return listener


def local_entrance(store: Store, folder: Path) -> Entrance:
    """Return the one-time link for the person at this machine: an admin whose password is a secret beside the database, readable by its owner only."""
    from herdling.web.desk import Entrance

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "local-admin-secret"
    made = not path.exists()
    if made:
        with beside(path) as partial, os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    secret = path.read_text()
    known = next((user for user in store.accounts.users() if user.name == LOCAL_ADMIN), None)
    if known is None:
        store.accounts.add(LOCAL_ADMIN, secret, "admin")
    elif made:
        store.accounts.set_password(known.id, secret)
    return Entrance(token=secrets.token_urlsafe(24), name=LOCAL_ADMIN, password=secret)


def first_admin(store: Store) -> Entrance | None:
    """Return the one-time link that sets up the first admin, or None where there are accounts."""
    from herdling.web.desk import Entrance

    return None if store.accounts.users() else Entrance(token=secrets.token_urlsafe(24))


def openers(store: Store) -> dict[str, Callable[[], Generator]]:
    """Return how to open each model of all campaigns.

    Raises:
        SettingsError: one name for two models.
    """
    from herdling.generate.generator import open_generator

    places: dict[str, str] = {}
    for campaign in store.campaigns.names():
        for name, variant in store.campaigns.config(campaign).models.items():
            place = place_of(variant)
            if places.setdefault(name, place) != place:
                raise SettingsError(f"campaign {campaign}: its model {name!r} is {place}, in another campaign {places[name]}. Give each model one name")
    key = api_key()
    return {name: partial(open_generator, name, place, api_key=key) for name, place in places.items()}


def place_of(variant: VariantConfig) -> str:
    """Return the path or address of a variant."""
    return variant.model if variant.url is None else f"{variant.url}#{variant.model}".rstrip("#")


def _named(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not (name and equals and place):
        raise SettingsError(f"--model {text}: expected NAME=PATH or NAME=http://HOST:PORT/v1#MODEL")
    return name, place


def _only(campaigns: list[str], what: str) -> str:
    if len(campaigns) != 1:
        raise SettingsError(f"{what}: which campaign of {', '.join(campaigns)}? Name it by its file: --campaign FILE")
    return campaigns[0]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
