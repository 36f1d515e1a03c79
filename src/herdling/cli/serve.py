"""`herdling serve PATH`: a reward model over HTTP, at POST /v1/score."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from herdling.base.artifact import is_artifact, read_artifact
from herdling.base.errors import MissingExtraError, ModelError


def serve(
    path: Annotated[Path, typer.Argument(help="A reward model's folder, or the folder of a run that made one.")],
    host: Annotated[str, typer.Option("--host", help="Address to listen on. The default is reached from this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port to listen on.", min=1, max=65535)] = 8000,
) -> None:
    """Serve a reward model over HTTP: POST /v1/score."""
    folder = reward_in(path)
    try:
        import uvicorn

        from herdling.web.score import score_app
    except ImportError as error:
        raise MissingExtraError(error.name or "starlette", "serve", "Serving a model") from None
    from herdling.generate.loaded import load
    from herdling.model.precision import prepare_device

    prepare_device()
    app = score_app(load(folder, dtype="float32"), folder.name)
    print(f"serving {folder} at http://{host}:{port}/v1/score; stop with Ctrl-C", file=sys.stderr, flush=True)
    uvicorn.run(app, host=host, port=port, log_level="warning")


def reward_in(path: Path) -> Path:
    """Return the reward model's folder that a path means: the path itself, or the one that a run made.

    Raises:
        ModelError: nothing there, or a run with no finished reward model or with several, by name.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: is not there. Name a reward model's folder, or the folder of a run that made one")
    if not (path / "recipe.json").is_file():
        return path
    found = sorted(folder for folder in path.iterdir() if is_artifact(folder) and read_artifact(folder).kind == "reward")
    if len(found) != 1:
        which = f"holds {len(found)} reward models: " + ", ".join(map(str, found)) if found else "holds no finished reward model"
        raise ModelError(f"{path}: {which}. Name the folder of one")
    return found[0]
