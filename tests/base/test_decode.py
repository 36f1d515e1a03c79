from __future__ import annotations

from typing import Annotated

import pytest

from herdling.base.decode import Input, Volatile, decode, encode, inputs_of, settings, stable_settings
from herdling.base.errors import SettingsError


@settings
class InnerConfig:
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)


@settings
class OuterConfig:
    model: Annotated[str, Input("model")]
    models: dict[str, Annotated[str, Input("model", "export")]] | None = None
    epochs: int = 2
    log_every: Annotated[int, Volatile()] = 10
    inner: InnerConfig = InnerConfig()


def test_decode_then_encode_gives_the_same_settings() -> None:
    value = decode(OuterConfig, {"model": "@a", "inner": {"lr": 1, "betas": [0.9, 0.5]}}, "x")
    assert value.inner == InnerConfig(lr=1.0, betas=(0.9, 0.5))
    assert decode(OuterConfig, encode(value), "x") == value


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "s.model: is missing and has no safe default"),
        ({"model": "a", "epochs": "two"}, "s.epochs: found 'two', expected a whole number"),
        ({"model": "a", "epochs": 2.5}, "s.epochs: found 2.5, expected a whole number"),
        ({"model": "a", "epochs": True}, "s.epochs: found True, expected a whole number"),
        ({"model": 3}, "s.model: found 3, expected text in quotes"),
        ({"model": "a", "epcohs": 2}, "s.epcohs: unknown setting (did you mean 'epochs'?)"),
        ({"model": "a", "inner": {"lrr": 2}}, "s.inner.lrr: unknown setting (did you mean 'lr'?); accepted here: lr, betas"),
        ({"model": "a", "inner": 5}, "s.inner: found 5, expected a table"),
    ],
)
def test_a_fault_names_its_path_what_was_found_and_what_is_accepted(data: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        decode(OuterConfig, data, "s")
    assert str(caught.value).startswith(said)


def test_inputs_are_found_by_their_type() -> None:
    value = OuterConfig(model="@a", models={"x": "@b", "y": "/c"})
    assert list(inputs_of(value)) == [
        ("model", "@a", Input("model")),
        ("models.x", "@b", Input("model", "export")),
        ("models.y", "/c", Input("model", "export")),
    ]


def test_a_mark_accepts_its_kinds_and_without_any_everything() -> None:
    assert [kind for kind in ("data", "samples", "model") if Input("data", "samples").accepts(kind)] == ["data", "samples"]
    assert str(Input("data", "samples")) == "data or samples"
    assert Input().accepts("whatever")


def test_a_volatile_setting_is_not_part_of_the_identity() -> None:
    plain = stable_settings(OuterConfig(model="@a", log_every=99))
    assert "log_every" not in plain
    assert plain == stable_settings(OuterConfig(model="@a", log_every=1))
