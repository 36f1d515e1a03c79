"""The training that a budget buys best, as the lowest points of a sweep's parabolas say (Llama 3, section 3.2.1), in a shape of its family. No torch."""

from __future__ import annotations

from herdling.model.family import family, member
from herdling.plan.isoflop import TokenLaw
from herdling.plan.scaling_law import ParametricLaw
from herdling.plan.sweep_points import Point, point_at


def optimal_point(line: TokenLaw, flops: float, *, vocab_size: int, sequence_length: int) -> Point:
    """Return the training whose size is nearest to C / 6D*(C), with the tokens that it leaves of the budget."""
    return point_at(flops, member(line.parameters(flops), vocab_size=vocab_size, sequence_length=sequence_length))


def by_exact_flops(law: ParametricLaw, exact_flops: float, *, vocab_size: int, sequence_length: int) -> Point:
    """Return what a law would train if every product is paid, attention too, where `optimal_point` pays 6ND: how much the convention decides."""

    def tokens(number: int) -> float:
        return exact_flops / shapes[number].flops_per_token(sequence_length)

    shapes = family(vocab_size, sequence_length)
    best = min(range(len(shapes)), key=lambda number: float(law.loss(shapes[number].num_parameters(), tokens(number))))
    return point_at(6.0 * shapes[best].num_parameters() * tokens(best), shapes[best])
