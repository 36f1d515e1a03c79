"""The embedded default: text that stands on the user's own machine, and the small world of dialogues that a first run is raised in.

    documents("docstrings")  -> Iterator[Document]      real text from the user's Python installation (`SOURCES` names them)
    dialogs(seed)            -> StarterDialogs          what to teach an assistant about it, and questions a program can check
    demonstrations(...)      -> Iterator[Dialog]        the same training dialogs as many hands write them, some of them badly

Files, from the ground: installation, packages (where the sources are) -> facts (what can be asked) -> text (documents); wordings, small_talk, wishes, refusals
(data) -> exchanges (one question, one answer) -> world (the splits) -> conversation, questions -> dialogs.
"""

from herdling.starter.dialogs import StarterDialogs, dialogs
from herdling.starter.hands import demonstrations
from herdling.starter.text import SOURCES, documents, made_from

__all__ = ["SOURCES", "StarterDialogs", "demonstrations", "dialogs", "documents", "made_from"]
