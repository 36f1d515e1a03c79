"""Remove exact duplicates and hold out a validation split, in one pass and by digests alone.

Which side an item falls on depends on its own text and nothing else: adding or reordering data never moves an old item across, and two equal texts never
stand on both sides. Costs about 100 bytes an item for the whole run (a digest in a set), plus the `minimum` items held back until their source ends.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TextIO, TypeVar

from herdling.base.artifact import beside
from herdling.base.ledger import Ledger

Split = Literal["train", "validation"]
T = TypeVar("T")
DUPLICATE = "exact duplicate"


class Seen:
    """The texts met so far, by digest: what makes duplicates across sources visible."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, text: str) -> bool:
        """Remember a text. Returns False when it was here before."""
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        before = len(self._digests)
        self._digests.add(digest)
        return len(self._digests) > before


def without_duplicates(items: Iterable[T], *, text: Callable[[T], str], name: Callable[[T], str], seen: Seen, ledger: Ledger) -> Iterator[T]:
    """Yield the items whose text is new; the others are counted as dropped, by name."""
    for item in items:
        if seen.add(text(item)):
            yield item
        else:
            ledger.drop(DUPLICATE, name(item))


def hold_out(
    items: Iterable[T], *, group: Callable[[T], str], share: float, minimum: int, decided: Callable[[T], Split | None] = lambda _: None
) -> Iterator[tuple[Split, T]]:
    """Yield each item with its split: the one that is `decided` for it, else by the digest of its group.

    About `share` of the groups are held out, but at least `minimum` (for which no more than a tenth of them is taken, or one of two to ten); none when `share`
    is 0 or there is one group only. Items of one group (one text, one opening question) stay together. The groups with the lowest digests are held out, so that
    a larger share holds out what a smaller one did, and more; the `minimum` lowest wait in memory until the end.
    """
    lowest: dict[float, list[T]] = {}
    num_groups: set[float] | None = set()  # counted only until it is clear that there are enough
    for item in items:
        known = decided(item)
        if known:
            yield known, item
            continue
        place = _place(group(item))
        if num_groups is not None:
            num_groups.add(place)
            if len(num_groups) >= 10 * minimum:
                num_groups = None
        if place in lowest:
            lowest[place].append(item)
            continue
        if len(lowest) < minimum or (lowest and place < max(lowest)):
            lowest[place] = [item]
            if len(lowest) <= minimum:
                continue
            place = max(lowest)
            waiting = lowest.pop(place)
        else:
            waiting = [item]
        yield from (("validation" if place < share else "train", each) for each in waiting)
    few = len(num_groups) if num_groups is not None else None
    certain = minimum if few is None else min(minimum, max(few // 10, int(few > 1)))
    for rank, place in enumerate(sorted(lowest)):
        held = share > 0 and few != 1 and (rank < certain or place < share)
        yield from (("validation" if held else "train", each) for each in lowest[place])


def write_splits(
    name: str,
    path_of: Callable[[Split], Path],
    items: Iterable[tuple[Split, T]],
    *,
    to_row: Callable[[T], Mapping[str, Any]],
    size: Callable[[T], int],
    ledger: Ledger,
) -> dict[Split, int]:
    """Write the items of each split as lines of JSON to `path_of(split)`, atomically. Counts rows kept; returns the summed `size` of each split."""
    sizes: dict[Split, int] = {"train": 0, "validation": 0}
    with ExitStack() as stack:
        files: dict[Split, TextIO] = {}
        for split in sizes:
            path = path_of(split)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = stack.enter_context(beside(path))
            files[split] = stack.enter_context(partial.open("w", encoding="utf-8", newline="\n"))
        for split, item in items:
            files[split].write(json.dumps(to_row(item), ensure_ascii=False) + "\n")
            sizes[split] += size(item)
            ledger.keep()
            ledger.count(f"{name}.{split} rows")
    return sizes


def _place(text: str) -> float:
    """Return where a text falls in [0, 1), evenly."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, person=b"hold out").digest(), "little") / 2**64
