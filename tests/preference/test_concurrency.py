"""Many annotators at once, and machines that lose power: what was acknowledged stands once, and no slot is given twice."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from herdling.base.comparison_records import read_comparisons
from herdling.base.errors import Refused
from herdling.preference.store import Store
from tests.killing import run_killed
from tests.preference.annotating import annotate, annotate_until_killed, close_until_killed, submit_until_closed
from tests.preference.desk import Clock, Desk, add_user


def test_annotators_at_once_fill_the_overlap_exactly_and_each_submission_counts_once(desk: Desk) -> None:
    campaign = desk.campaign(prompts=12, overlap=2, repeat_share=0.1)
    team = [desk.ann, desk.bob, add_user(desk.store, "carol"), add_user(desk.store, "dave")]
    with ThreadPoolExecutor(len(team)) as pool:
        list(pool.map(lambda user: annotate(desk.store, campaign, user, chance=random.Random(user)), team))
    for user in team:  # what one held while the others found nothing
        annotate(desk.store, campaign, user, chance=random.Random(user))
    per_task = "(SELECT task_id, count(*) AS n FROM judgements j JOIN tasks t ON t.id = j.task_id WHERE t.kind = 'prompt' GROUP BY task_id) AS counted"
    assert desk.count(f"SELECT count(*) FROM {per_task}") == 12
    assert desk.count(f"SELECT count(*) FROM {per_task} WHERE n <> 2") == 0
    assert desk.count("SELECT count(*) FROM judgements WHERE revision <> 1") == 0


def test_the_last_slot_is_never_held_by_two(desk: Desk) -> None:
    campaign = desk.campaign(prompts=1)
    team = [desk.ann, desk.bob, *(add_user(desk.store, f"user{number}") for number in range(6))]
    for _ in range(3):
        with ThreadPoolExecutor(len(team)) as pool:
            held = [each for each in pool.map(lambda user: desk.store.tasks.next(campaign, user), team) if each is not None]
        assert len(held) == 1
        desk.clock.now += 10_000  # the lease runs out, and the race begins anew


def test_two_tabs_of_one_annotator_get_one_task(desk: Desk) -> None:
    campaign = desk.campaign(prompts=5)
    with ThreadPoolExecutor(6) as pool:
        held = list(pool.map(lambda _: desk.store.tasks.next(campaign, desk.ann), range(6)))
    assert len({each and each.lease for each in held}) == 1


def test_a_submission_and_the_end_of_its_lease_have_one_winner(desk: Desk) -> None:
    campaign = desk.campaign(prompts=6)
    for _ in range(6):
        held = desk.next(campaign, desk.ann)
        later = Store(desk.url, clock=Clock(desk.clock.now + 10_000))

        def late(store: Store = later) -> int | None:
            taken = store.tasks.next(campaign, desk.bob)
            return taken and taken.task

        with ThreadPoolExecutor(2) as pool:
            submitting, taking = pool.submit(desk.judge, held, desk.ann), pool.submit(late)
            taken = taking.result()
            refused = submitting.exception()
        later.close()
        if taken == held.task:
            assert isinstance(refused, Refused)
            assert refused.reason == "stale lease"
        else:
            assert refused is None
        states = "SELECT count(*) FROM assignments WHERE task_id = :task AND slot IS NOT NULL"
        assert desk.count(states, task=held.task) == 1
        desk.clock.now += 20_000


def test_a_round_closed_among_submissions_holds_exactly_what_was_acknowledged_before(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=400)
    team = [desk.ann, desk.bob]
    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(submit_until_closed, desk.store, campaign, user) for user in team]
        while desk.count("SELECT count(*) FROM judgements") < 10:
            time.sleep(0.01)
        artifact = pool.submit(desk.store.rounds.close, campaign, tmp_path).result()
        accepted = sorted(task for each in working for task in each.result())
    frozen = sorted(each.metadata["task"] for split in ("train", "test") for each in read_comparisons(artifact.folder, split))
    assert frozen == accepted


def test_what_was_acknowledged_survives_kills_and_nothing_stands_twice(desk: Desk, tmp_path: Path) -> None:
    campaign, kills = desk.campaign(prompts=80), 3
    acknowledged, done = tmp_path / "acknowledged", tmp_path / "done"
    acknowledged.touch()
    context, chance = multiprocessing.get_context("forkserver"), random.Random(time.time_ns())
    context.set_forkserver_preload(["tests.preference.annotating"])

    def lines() -> int:
        return len(acknowledged.read_text().splitlines())

    for kill in range(kills + 1):
        before = lines()
        worker = context.Process(target=annotate_until_killed, args=(desk.url, campaign, desk.ann, acknowledged, done))
        worker.start()
        while kill < kills and lines() < before + 5 and worker.is_alive():
            time.sleep(0.002)
        if kill < kills:
            time.sleep(chance.uniform(0, 0.02))  # anywhere between two commits
            worker.kill()
        worker.join()
        assert worker.exitcode == (-signal.SIGKILL if kill < kills else 0)
    told = [int(line.split()[0]) for line in acknowledged.read_text().splitlines()]
    assert len(told) == len(set(told))
    # A kill between a commit and the line about it leaves a judgement that was never acknowledged: at most one a kill.
    assert 80 - kills <= len(told) <= 80
    assert desk.count("SELECT count(*) FROM judgements") == desk.count("SELECT count(DISTINCT task_id) FROM judgements") == 80


def test_closing_killed_at_any_moment_leaves_no_half_artifact(desk: Desk, tmp_path: Path) -> None:
    campaign = desk.campaign(prompts=40)
    annotate(desk.store, campaign, desk.ann, chance=random.Random(0))
    done = tmp_path / "done"
    run_killed(close_until_killed, (desk.url, campaign, tmp_path / "rounds", done), done, kills=4, longest=0.8)
    artifact = desk.store.rounds.close(campaign, tmp_path / "rounds", number=1)
    artifact.verify()
    fresh = desk.store.rounds.close(campaign, tmp_path / "elsewhere", number=1)
    assert fresh.fingerprint == artifact.fingerprint
    assert len(list((tmp_path / "rounds").glob("[!.]*"))) == 1
    assert desk.count("SELECT count(*) FROM rounds") == 2
