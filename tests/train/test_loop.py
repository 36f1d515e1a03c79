import dataclasses
import json
import math

import pytest
import torch

from herdling.base.errors import CheckpointError, Stopped, TrainingError
from herdling.train.config import CheckpointConfig, GuardConfig, ScheduleConfig
from herdling.train.feed import ScheduledFeed
from herdling.train.loop import micro_batches
from herdling.train.losses import NextToken
from herdling.train.schedule import plan_schedule
from tests.train.tiny import NoiseRows, TinyModel, tiny_loop, tiny_schedule


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def metrics(folder, split="train"):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["split"] == split]


class Notes:
    """A progress that remembers."""

    def __init__(self):
        self.notes, self.updates, self.total = [], [], None

    def begin(self, total, unit):
        self.total = total

    def update(self, done, **shown):
        self.updates.append((done, shown))

    def note(self, text):
        self.notes.append(text)


class PoisonedNextToken(NextToken):
    """Makes the loss of some calls infinite."""

    def __init__(self, bad_calls):
        self.bad_calls, self.calls = bad_calls, 0

    def loss(self, scores, batch):
        total, metrics = super().loss(scores, batch)
        self.calls += 1
        return (total * math.inf if self.calls in self.bad_calls else total), metrics


def test_it_learns_and_writes_a_line_for_each_step(tmp_path):
    progress = Notes()
    summary = tiny_loop(tmp_path, num_steps=60, progress=progress).run()
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 61))
    assert lines[-1]["tokens"] == summary["tokens"] == 60 * 128
    assert lines[0]["loss"] == pytest.approx(math.log(37), abs=0.5)
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]
    assert summary["loss"] == pytest.approx(lines[-1]["loss"], abs=1e-4)
    assert progress.total == 60
    assert progress.updates[-1][0] == 60


def test_the_loss_is_the_mean_over_supervised_tokens_of_all_micro_batches(tmp_path):
    model = TinyModel()
    loop = tiny_loop(tmp_path, num_steps=1, model=model, micro_batch_tokens=3 * 16)
    with torch.no_grad():
        batch = NoiseRows().rows(0, 8)
        logprobs = model.score(batch).logprobs[batch.loss_mask]
    loop.run()
    (line,) = metrics(tmp_path)
    assert line["loss"] == pytest.approx(-logprobs.mean().item(), abs=1e-5)
    assert line["supervised"] == logprobs.numel()


def test_a_stop_finishes_the_step_and_the_next_run_goes_on(tmp_path):
    calls = []
    loop = tiny_loop(tmp_path, num_steps=20, stop_requested=lambda: len(calls) >= 7 or calls.append(1))
    with pytest.raises(Stopped, match="after step 8 of 20; all is saved"):
        loop.run()
    progress = Notes()
    tiny_loop(tmp_path, num_steps=20, progress=progress).run()
    assert progress.notes[0] == "goes on after step 8 of 20"
    assert [line["step"] for line in metrics(tmp_path)] == list(range(1, 21))


def test_a_finished_run_is_not_trained_again(tmp_path):
    tiny_loop(tmp_path, num_steps=5).run()
    model = TinyModel(seed=9)
    summary = tiny_loop(tmp_path, num_steps=5, model=model).run()
    assert summary["steps"] == 5
    again = TinyModel(seed=8)
    tiny_loop(tmp_path, num_steps=5, model=again).run()
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path):
    summary = tiny_loop(tmp_path, objective=PoisonedNextToken({3, 10})).run()
    assert summary["skipped_steps"] == 2
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines if line["skipped"]] == [3, 10]
    assert lines[2]["loss"] is None
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_too_many_skipped_steps_in_a_row_stop_with_advice_and_leave_good_weights(tmp_path):
    loop = tiny_loop(tmp_path, objective=PoisonedNextToken(set(range(10, 100))), guard=GuardConfig(patience=5))
    with pytest.raises(TrainingError, match="Lower optimizer"):
        loop.run()
    assert all(weight.isfinite().all() for weight in loop.optimizer.weights)


def test_data_that_ends_early_says_so(tmp_path):
    schedule = tiny_schedule(30)
    feed = ScheduledFeed(schedule, lambda length: NoiseRows(num_rows=40, sequence_length=length))
    with pytest.raises(TrainingError, match="the data ended at step 5 of 30"):
        tiny_loop(tmp_path, schedule=schedule, feed=feed).run()


def test_a_feed_that_may_end_early_ends_training_with_every_step_on_record(tmp_path):
    schedule = tiny_schedule(30)
    feed = ScheduledFeed(schedule, lambda length: NoiseRows(num_rows=40, sequence_length=length))
    assert tiny_loop(tmp_path, schedule=schedule, feed=feed, may_end_early=True).run()["steps"] == 5
    assert [line["step"] for line in metrics(tmp_path)] == [1, 2, 3, 4, 5]


def test_validation_runs_at_its_interval_and_at_the_end(tmp_path):
    progress = Notes()
    loop = tiny_loop(tmp_path, num_steps=10, validate=lambda: {"code": 1.5, "books": 2.0}, validate_every=4, progress=progress)
    summary = loop.run()
    lines = metrics(tmp_path, "validation")
    assert [(line["step"], line["source"]) for line in lines] == [(step, source) for step in (4, 8, 10) for source in ("code", "books")]
    assert lines[0]["tokens"] == 4 * 128
    assert summary["bits_per_byte"] == {"code": 1.5, "books": 2.0}
    assert progress.notes[-1] == "step 10: bits per byte code 1.500, books 2.000"


def test_a_resume_with_other_data_is_refused(tmp_path):
    tiny_loop(tmp_path, num_steps=5).run()
    schedule = tiny_schedule(5)
    other = ScheduledFeed(schedule, lambda length: NoiseRows(sequence_length=length, seed=1))
    with pytest.raises(CheckpointError, match="other data or in another order"):
        tiny_loop(tmp_path, schedule=schedule, feed=other).run()


def test_a_resume_with_another_model_is_refused(tmp_path):
    tiny_loop(tmp_path, num_steps=5).run()
    with pytest.raises(CheckpointError, match=r"is of another model: exp_avg.embed.weight is \(37, 24\) there and \(37, 8\) here"):
        tiny_loop(tmp_path, num_steps=5, model=TinyModel(width=8)).run()


def test_when_to_save_cannot_change_the_result(tmp_path):
    weights = []
    for name, config in [("a", CheckpointConfig(every_seconds=0.0, keep=1)), ("b", CheckpointConfig(every_seconds=1e9, every_steps=7))]:
        model = TinyModel()
        tiny_loop(tmp_path / name, model=model, checkpoint=config).run()
        weights.append(torch.cat([weight.detach().flatten() for weight in model.parameters()]))
    assert torch.equal(*weights)


def test_rows_follow_a_ramp_of_batch_and_length():
    schedule = plan_schedule(ScheduleConfig(), num_tokens=4096, batch="0:64@16 256:256@32", sequence_length=None, where="test")
    feed = ScheduledFeed(schedule, lambda length: NoiseRows(sequence_length=length))
    shapes = [tuple(batch.input_ids.shape) for batch in feed.batches(0)]
    assert shapes == [(4, 16)] * 4 + [(8, 32)] * 15
    whole = list(feed.batches(0))
    for step in (2, 4, 9):
        assert torch.equal(next(feed.batches(step)).input_ids, whole[step].input_ids)
    # Rows of 32 begin at the tokens seen so far: 256 tokens are 8 rows.
    assert torch.equal(whole[4].input_ids, NoiseRows(sequence_length=32).rows(8, 8).input_ids)


def test_micro_batches_keep_whole_rows_and_what_an_objective_added():
    @dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
    class WithReference(type(NoiseRows().rows(0, 1))):
        reference: torch.Tensor

    batch = NoiseRows().rows(0, 7)
    extended = WithReference(**{item.name: getattr(batch, item.name) for item in dataclasses.fields(batch)}, reference=torch.arange(7))
    parts = list(micro_batches(extended, 50))
    assert [len(part.input_ids) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part.reference for part in parts]), torch.arange(7))
    assert [len(part.input_ids) for part in micro_batches(batch, 1)] == [1] * 7
