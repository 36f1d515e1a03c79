"""Annotators who all work at once: how long the pages take, and whether a judgement is ever lost or doubled, also when the server is killed.

    python benchmarks/bench_annotate.py                                   SQLite; with DATABASE=postgresql://USER@HOST/NAME that one (an empty database)
    python benchmarks/bench_annotate.py --seconds 60 --annotators 50 --think 1.0

Each annotator opens the page, then again and again takes a task, gets its answers, saves a draft, judges. Three runs on fresh stores: one at the pace of people
(`--think` seconds from one request to the next, drawn around that), one as fast as the server allows, and one at people's pace in which the server is killed
with SIGKILL twice and started again while everybody sends what they have not heard back. Every judgement that was acknowledged has to stand in the
store exactly once, and no other. The load generator is one process of asyncio beside the server on the same machine. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa
from annotate_worker import CAMPAIGN, PASSWORD
from machine import machine_facts

HERE = Path(__file__).parent
PORT = 8391
BASE = f"http://127.0.0.1:{PORT}"
NEEDS_GENERATION = {"answers"}


class Server:
    """The server process."""

    def __init__(self, url: str, num_annotators: int) -> None:
        self.command = [sys.executable, str(HERE / "annotate_worker.py"), url, str(PORT), str(num_annotators), "30000"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(self.command)
        while True:
            try:
                httpx.get(f"{BASE}/health", timeout=1)
                return
            except httpx.TransportError:
                assert self.process.poll() is None, "the server did not start"
                time.sleep(0.05)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Log:
    """What all annotators measured and heard back."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.acknowledged: dict[tuple[str, int], str] = {}
        self.refused: Counter[str] = Counter()
        self.resent = 0


class Annotator:
    """One browser's worth of requests. A request without an answer is sent again with the same key, as the page does."""

    def __init__(self, name: str, log: Log, think: float) -> None:
        self.name, self.log, self.think = name, log, think
        self.http = httpx.AsyncClient(base_url=BASE, timeout=30, limits=httpx.Limits(max_connections=1))
        self.chance = random.Random(name)
        self.csrf = ""

    async def login(self) -> None:
        """Come in, and keep the page's token."""
        token = re.search(r'name="csrf" value="(\w+)"', (await self.http.get("/login")).text)
        assert token is not None
        await self.http.post("/login", data={"csrf": token[1], "name": self.name, "password": PASSWORD})
        found = re.search(r'data-csrf="(\w+)"', await self.timed("page", "GET", f"/annotate/{CAMPAIGN}"))
        assert found is not None, "login failed"
        self.csrf = found[1]

    async def timed(self, name: str, method: str, path: str, body: Any = None) -> str:
        """Send until answered. A first try that the server answered is timed; what a killed server never answered is sent again."""
        for attempt in range(1000):
            began = time.perf_counter()
            try:
                response = await self.http.request(method, path, json=body, headers={"x-csrf-token": self.csrf})
            except httpx.TransportError:
                self.log.resent += 1
                await asyncio.sleep(min(2.0, 0.2 * 1.5**attempt))
                continue
            if response.status_code >= 500:
                raise AssertionError(f"{name}: {response.status_code} {response.text}")
            self.log.seconds[name].append(time.perf_counter() - began)
            if response.status_code != 200:
                self.log.refused[response.json()["reason"]] += 1
                return ""
            return response.text
        raise AssertionError("the server did not come back")

    async def ask(self, name: str, **body: Any) -> Any:
        """Ask as the page's script does, then think."""
        text = await self.timed(name, "POST", f"/annotate/{CAMPAIGN}/{name}", body)
        if self.think:
            await asyncio.sleep(self.think * self.chance.uniform(0.5, 1.5))
        return json.loads(text) if text else None

    async def work(self, until: float) -> None:
        """Judge until time is up."""
        await asyncio.sleep(self.think * self.chance.random())
        await self.timed("page", "GET", f"/annotate/{CAMPAIGN}")
        await self.ask("start")
        while time.perf_counter() < until:
            task = ((await self.ask("next")) or {}).get("task")
            if task is None:
                raise AssertionError("the queue is empty: give it more prompts")
            hold = {"task": task["task"], "lease": task["lease"]}
            if await self.ask("answers", **hold) is None:
                continue
            choice = self.chance.randint(1, 8)
            await self.ask("draft", **hold, draft={"choice": choice, "seen": True})
            key = f"{self.chance.getrandbits(64):016x}"
            stored = await self.ask("judge", **hold, key=key, choice=choice, seconds=1.0)
            if stored is not None:
                assert (self.name, task["task"]) not in self.log.acknowledged, "one task was given twice"
                self.log.acknowledged[self.name, task["task"]] = choice


async def load(num_annotators: int, seconds: float, think: float, server: Server, num_kills: int) -> tuple[Log, float]:
    """Let everybody work; kill and restart the server in the middle."""
    log = Log()
    annotators = [Annotator(f"annotator {number}", log, think) for number in range(num_annotators)]
    for annotator in annotators:
        await annotator.login()
    log.seconds.clear()
    began = time.perf_counter()
    tasks = [asyncio.create_task(annotator.work(began + seconds)) for annotator in annotators]
    for _ in range(num_kills):
        await asyncio.sleep(seconds / (num_kills + 1))
        server.kill()
        await asyncio.to_thread(server.start)
    await asyncio.gather(*tasks)
    elapsed = time.perf_counter() - began
    for annotator in annotators:
        await annotator.http.aclose()
    return log, elapsed


def in_store(url: str) -> Counter[tuple[str, int, int]]:
    """Return (annotator, task, key of the scale) of every judgement in the log, read past the store by plain SQL."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    asked = "SELECT users.name, judgements.task_id, judgements.judgement FROM judgements JOIN users ON users.id = judgements.user_id WHERE kind = 'judged'"
    levels = ["significantly", "better", "slightly", "negligibly"]
    found: Counter[tuple[str, int, int]] = Counter()
    with engine.connect() as connection:
        for name, task, said in connection.execute(sa.text(asked)):
            judged = json.loads(said) if isinstance(said, str) else said
            level = levels.index(judged["rating"]) + 1
            found[name, task, level if judged["side"] == "left" else 9 - level] += 1
    engine.dispose()
    return found


def run(url: str, options: argparse.Namespace, think: float, num_kills: int) -> dict[str, Any]:
    """One run on a fresh store: times, and the comparison of what was acknowledged with what is stored."""
    server = Server(url, options.annotators)
    server.start()
    try:
        log, elapsed = asyncio.run(load(options.annotators, options.seconds, think, server, num_kills))
    finally:
        server.kill()
    stored = in_store(url)
    heard = {(name, task, choice) for (name, task), choice in log.acknowledged.items()}
    lost, doubled, unheard = heard - set(stored), [one for one, count in stored.items() if count > 1], set(stored) - heard
    quick = [one for name, times in log.seconds.items() if name not in NEEDS_GENERATION for one in times]
    return {
        "annotators": options.annotators,
        "seconds": round(elapsed, 1),
        "think_seconds": think,
        "kills": num_kills,
        "requests_per_second": round(sum(map(len, log.seconds.values())) / elapsed, 1),
        "judgements": len(heard),
        "lost": len(lost),
        "doubled": len(doubled),
        "stored_but_never_acknowledged": len(unheard),
        "sent_again": log.resent,
        "refused": dict(log.refused),
        "milliseconds_without_generation": percentiles(quick),
        "milliseconds": {name: percentiles(times) for name, times in sorted(log.seconds.items())},
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return count, median, 99th percentile and worst, in milliseconds."""
    ordered = sorted(seconds)
    at = lambda share: round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)  # noqa: E731
    return {"count": len(ordered), "p50": at(0.5), "p99": at(0.99), "worst": at(1.0)} if ordered else {"count": 0}


def fresh(database: str | None, folder: str, name: str) -> str:
    """Return the URL of an empty store: a new file, or a schema of its own in the given PostgreSQL database."""
    if database is None:
        return f"sqlite:///{folder}/{name}.db"
    engine = sa.create_engine(database.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f'DROP DATABASE IF EXISTS "bench_{name}"'))
        connection.execute(sa.text(f'CREATE DATABASE "bench_{name}"'))
    engine.dispose()
    return sa.make_url(database).set(database=f"bench_{name}").render_as_string(hide_password=False)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--think", type=float, default=1.0)
    parser.add_argument("--runs", nargs="*", default=["people", "flat_out", "killed"], choices=["people", "flat_out", "killed"])
    options = parser.parse_args()
    database = os.environ.get("DATABASE")
    plans = {"people": (options.think, 0), "flat_out": (0.0, 0), "killed": (options.think, 2)}
    with tempfile.TemporaryDirectory() as folder:
        results = {name: run(fresh(database, folder, name), options, *plans[name]) for name in options.runs}
    facts = machine_facts("starlette", "uvicorn", "sqlalchemy", "psycopg")
    print(json.dumps({"benchmark": "annotate", "database": "postgresql" if database else "sqlite", **results, "machine": facts}))


if __name__ == "__main__":
    main()
