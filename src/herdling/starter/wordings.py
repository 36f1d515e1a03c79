"""How people ask: every question of the small world as a template, in two families.

`seen` templates make the training dialogs. `held_out` templates appear in no training dialog, whatever they ask about: they make the questions. Fields: `{x}`
full name (`textwrap.dedent`), `{n}` bare name (`dedent`), `{task}` what it does, as a verb phrase, `{a}` and `{b}` whole numbers. Data only: a new wording is a
new line here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wordings:
    """The templates of one kind of question, split into what is trained and what is asked."""

    seen: tuple[str, ...]
    held_out: tuple[str, ...]


OPENERS = ("", "", "", "", "Please: ", "Hi! ", "Quick question: ", "Hello. ", "A question: ")
"""What may stand before a question in training; most have nothing."""

DOES = Wordings(
    seen=(
        "What does {x} do?",
        "What is {x} for?",
        "What is the purpose of {x}?",
        "Explain {x}.",
        "Explain {x} to me.",
        "Describe {x}.",
        "Describe {x} in one sentence.",
        "Tell me what {x} does.",
        "Tell me about {x}.",
        "What is {x}?",
        "Can you explain what {x} does?",
        "I found {x} in a program. What does it do?",
        "Why would I use {x}?",
        "{x}: what is it for?",
        "Summarize {x}.",
    ),
    held_out=(
        "Can you tell me what {x} is for?",
        "Please describe what {x} does.",
        "What would I use {x} for?",
        "I found {x}. Explain what it does.",
    ),
)

WHERE = Wordings(
    seen=(
        "Which module has {n}?",
        "What module is {n} in?",
        "Where is {n}?",
        "Where do I find {n}?",
        "Which module do I import to use {n}?",
        "From which module do I import {n}?",
        "In which module is {n}?",
        "Name the module of {n}.",
        "Tell me which module has {n}.",
        "I need {n}. Which module is it in?",
        "Where does {n} live?",
        "{n}: which module?",
    ),
    held_out=(
        "Tell me the module of {n}.",
        "Which module does {n} live in?",
        "I need {n}. From which module do I import it?",
        "In what module do I find {n}?",
    ),
)

TAKES = Wordings(
    seen=(
        "Which parameters does {x} take?",
        "What parameters does {x} have?",
        "What are the parameters of {x}?",
        "What arguments does {x} take?",
        "Which arguments does {x} accept?",
        "Name the parameters of {x}.",
        "List the arguments of {x}.",
        "What do I pass to {x}?",
        "What can I pass to {x}?",
        "What is the signature of {x}?",
        "Tell me the parameters of {x}.",
        "How do I call {x}?",
    ),
    held_out=(
        "Which parameters does {x} accept?",
        "Tell me what arguments {x} takes.",
        "Name the arguments I can pass to {x}.",
        "What parameters do I pass to {x}?",
    ),
)

FIND = Wordings(
    seen=(
        "How do I {task}?",
        "How can I {task}?",
        "Tell me how to {task}.",
        "I want to {task}.",
        "Help me {task}.",
        "What do I use to {task}?",
        "Explain how to {task}.",
        "Which function can {task}?",
        "I need to {task}. What do I use?",
        "Show me how to {task}.",
    ),
    held_out=(
        "What can I use to {task}?",
        "I want to {task}. How do I do it?",
        "Can you tell me how to {task}?",
    ),
)

# Asked after an answer, about the same thing ("it") or about another in the same way.
THEN_DOES = Wordings(
    seen=("And what does it do?", "What does it do?", "What is it for?", "Explain it."), held_out=("And what is it for?", "Tell me what it does.")
)
THEN_WHERE = Wordings(
    seen=("And which module is it in?", "Which module has it?", "Where do I find it?", "Where is it?"),
    held_out=("And where do I find it?", "In which module is it?"),
)
THEN_TAKES = Wordings(
    seen=("And what does it take?", "Which parameters does it take?", "What do I pass to it?", "What are its parameters?"),
    held_out=("And which parameters does it take?", "What arguments does it take?"),
)
THEN_ANOTHER = Wordings(seen=("And {x}?", "What about {x}?", "The same for {x}, please."), held_out=("And what about {x}?", "Now {x}, please."))

ADD = Wordings(
    seen=("What is {a} plus {b}?", "{a} + {b} = ?", "What is {a} + {b}?", "Add {a} and {b}.", "How much is {a} plus {b}?"),
    held_out=("How much is {a} + {b}?",),
)
SUBTRACT = Wordings(
    seen=("What is {a} minus {b}?", "{a} - {b} = ?", "What is {a} - {b}?", "Take {b} from {a}.", "How much is {a} minus {b}?"),
    held_out=("How much is {a} - {b}?",),
)
MULTIPLY = Wordings(
    seen=("What is {a} times {b}?", "{a} * {b} = ?", "What is {a} * {b}?", "Multiply {a} by {b}.", "How much is {a} times {b}?"),
    held_out=("How much is {a} * {b}?",),
)
