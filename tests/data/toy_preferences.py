"""Hypothesis strategies for comparisons that have no fault, and one made by hand."""

from __future__ import annotations

from hypothesis import strategies as st

from herdling.base.comparison_records import fault
from herdling.types import Comparison, Completion, Dialog, Message, Sampling, ToolCall

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(str.strip)


def answer(text: str, **known: object) -> Completion:
    return Completion(message=Message(role="assistant", content=text), stop_reason="end_of_turn", **known)  # type: ignore[arg-type]


def pair(chosen: str = "four", rejected: str = "five", *asked: str, **known: object) -> Comparison:
    """A comparison whose chosen answer stands left, on a dialog of these turns."""
    turns = asked or ("2+2?",)
    messages = tuple(Message(role="assistant" if index % 2 else "user", content=text) for index, text in enumerate(turns))
    given = {"id": "c1", "ranking": (0, 1), **known}
    return Comparison(dialog=Dialog(id="c1", messages=messages), responses=(answer(chosen), answer(rejected)), **given)  # type: ignore[arg-type]


@st.composite
def dialogs(draw: st.DrawFn, *, system: bool = True, tools: bool = True) -> Dialog:
    """A dialog that ends with a question, of one to three turns; between them perhaps a tool call and its result."""
    messages = [Message(role="system", content=draw(TEXT))] if system and draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        messages += [Message(role="user", content=draw(TEXT))]
        if tools and draw(st.booleans()):
            call = ToolCall(id="call_1", name="search", arguments=draw(st.dictionaries(TEXT, st.integers() | TEXT, max_size=2)))
            messages += [Message(role="assistant", content="", tool_calls=(call,)), Message(role="tool", content=draw(TEXT), tool_call_id="call_1")]
        messages += [Message(role="assistant", content=draw(TEXT))]
    schema = ({"type": "function", "function": {"name": "search"}},) if tools and draw(st.booleans()) else ()
    return Dialog(id="d", messages=(*messages, Message(role="user", content=draw(TEXT))), tools=schema)


@st.composite
def comparisons(draw: st.DrawFn, *, system: bool = True, tools: bool = True, edit: bool = True) -> Comparison:
    """A comparison without a fault: two answers in either order, perhaps an edit above both."""
    texts = draw(st.lists(TEXT, min_size=2, max_size=3 if edit else 2, unique_by=str.strip))
    ranking = tuple(draw(st.permutations(range(2))))
    sampling = draw(st.none() | st.builds(Sampling, temperature=st.floats(0, 2), stop=st.tuples(TEXT)))
    made = Comparison(
        id=draw(TEXT),
        dialog=draw(dialogs(system=system, tools=tools)),
        responses=tuple(answer(text, model="m", sampling=sampling) for text in texts),
        ranking=(2, *ranking) if len(texts) == 3 else ranking,
        rating=draw(st.sampled_from([None, "significantly", "better", "slightly", "negligibly"])),
        edited=2 if len(texts) == 3 else None,
        annotator=draw(st.sampled_from(["", "ann"])),
        seconds=draw(st.none() | st.floats(0, 1e4)),
    )
    assert fault(made) is None
    return made
