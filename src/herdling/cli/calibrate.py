"""`herdling plan --calibrate`: measure this machine, or take the logs of finished runs, so that forecasts are its own. Imports torch when it measures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from herdling.base.crowd import cores, crowding, moment
from herdling.base.environment import machine_file
from herdling.base.units import format_bytes, format_count
from herdling.cli.logged_runs import logged_runs
from herdling.plan.machine import Identity, Machine, read_machine, this_identity, update_machine
from herdling.plan.rungs import RUNGS, SEQUENCE_LENGTH
from herdling.plan.step_time import StepShape

Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Say a line beside the results."""
    print(line, file=sys.stderr, flush=True)


def calibrate_machine(log: Path | None, *, as_json: bool) -> None:
    """Measure, or add the runs of a log to what is known; keep it and print it."""
    place, identity = machine_file(), this_identity()
    if log is None:
        machine = measure(identity, place, quick=False, say=to_stderr)
    else:
        runs = logged_runs(log)
        known = this_machine(say=to_stderr)  # the runs correct a law, so there must be one

        def with_new(before: Machine | None) -> Machine:
            machine = before or known
            had = {(run.date, run.step_seconds, run.steps) for run in machine.runs}
            return machine.with_runs(run for run in runs if (run.date, run.step_seconds, run.steps) not in had)

        machine = update_machine(place, identity, with_new) if place else with_new(known)
    print_machine(machine, place, as_json=as_json)


def this_machine(*, say: Say) -> Machine:
    """Return this machine's record; where there is none it is measured now, in about five seconds, and kept."""
    place, identity = machine_file(), this_identity()
    machine, lines = read_machine(place, identity)
    for line in lines:
        say(line)
    if machine is not None:
        return machine
    say("nothing is known of this machine's speed yet: measuring it for some seconds (once; herdling plan --calibrate does it thoroughly)")
    return measure(identity, place, quick=True, say=say)


def measure(identity: Identity, place: Path | None, *, quick: bool, say: Say) -> Machine:
    """Measure this machine now; keep the record where there is a place. Finished runs that it told of before go on to correct it."""
    from herdling.model.precision import prepare_device
    from herdling.train.calibrate import calibrate

    device, began = prepare_device(), moment()
    tell = (lambda done, total: say(f"measuring real training steps: round {done} of {total}")) if not quick else (lambda done, total: None)
    machine = calibrate(identity, device, today=datetime.now(UTC).date(), quick=quick, tell=tell)
    taken = crowding(began, moment(), threads=device.threads, cores=os.cpu_count() or 1)
    if taken:
        say(f"other work took {taken:g} of {cores(device.threads)} meanwhile: what was measured holds for a machine that busy. Measure again when it is quiet")
        machine = replace(machine, source=f"{machine.source}, beside other work that took {taken:g} cores")

    def with_runs_of(before: Machine | None) -> Machine:
        return machine.with_runs(before.runs) if before and not machine.gpu else machine

    if place is None:
        return machine
    try:
        return update_machine(place, identity, with_runs_of)
    except OSError as error:
        say(f"{place}: cannot be written ({error}), so this is measured again next time. Name another file in HERDLING_MACHINE, or `off`")
        return machine


def print_machine(machine: Machine, place: Path | None, *, as_json: bool) -> None:
    """Print what was measured and what it means for the sizes of the quickstart."""
    if as_json:
        print(json.dumps({"place": str(place) if place else None, **machine.as_dict()}, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{machine_name(machine)}: {machine.source}")
    for name, rate in machine.ceilings.items():
        console.print(f"  {name:24} {format_bytes(rate)}/s" if name in ("memory", "exchange") else f"  {name:24} {format_count(rate)} FLOP/s")
    factor, spread = machine.correction("next token")
    runs = len(machine.runs)
    console.print(f"  forecasts of training steps hold within {spread:.0%} nine times in ten" + (f"; {runs} finished runs correct them" if runs else ""))
    for rung in RUNGS[::2]:
        shape = StepShape(model=rung.config, tokens=2048, sequence_length=SEQUENCE_LENGTH)
        seconds = factor * machine.law.seconds(shape)
        console.print(f"  {rung.size:>5} parameters: {2048 / seconds:,.0f} tokens/s, a step of 2,048 tokens in {seconds * 1000:,.0f} ms")
    console.print(f"kept in {place}" if place else "not kept: HERDLING_MACHINE is off", markup=False)


def machine_name(machine: Machine) -> str:
    """Return what a machine is, in a few words."""
    identity = machine.identity
    return f"{identity.gpu or identity.processor.partition(' (')[0]}, {cores(identity.cores)}, {machine.dtype}"
