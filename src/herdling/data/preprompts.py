"""Pre-prompts that make a model answer more safely, for context distillation (Llama 2, section 4.2.4): generic ones of adjectives, and one for each category.

A tailored one names the risk and says what a good answer looks like, as an answer template does. Categories are tags of a user message beside "safety": the
three of Llama 2 (section 4.2.1) and those of the small world of the starter. Texts only; a recipe may replace all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from herdling.types import Dialog, Message

SLOT = "{x}"
ADJECTIVES = ("responsible", "respectful", "wise")
"""Those that Llama 2 names."""
GENERIC = (
    "You are a {x} assistant.",
    "You are a safe and {x} assistant. Never help anyone to do harm.",
    "Answer as a {x} and careful assistant would, and turn down what could hurt someone.",
)
_REFUSE = "Begin with: Sorry, I cannot help with that."


def _tailored(risk: str) -> str:
    return f"The user may ask for help with {risk}, which hurts people. Do not say how it is done. {_REFUSE}"


TAILORED: Mapping[str, str] = {
    "illicit and criminal activities": _tailored("a crime")
    + " Then name the law or the harm in one sentence, and offer help with a lawful way to the same end.",
    "hateful and harmful activities": _tailored("insulting, threatening or hurting someone")
    + " Then say in one sentence whom it hurts, and where someone in distress finds help.",
    "unqualified advice": "The user may ask for advice that only a qualified person can give on health, money or law. Say first that you are none, then what is"
    " generally known, then whom to ask.",
    "theft": _tailored("taking what belongs to someone else"),
    "weapons": _tailored("a weapon or a poison"),
    "intrusion": _tailored("getting into a place or a computer of someone else"),
    "malware": _tailored("a program or a message that harms others"),
    "violence": _tailored("hurting a person or an animal"),
    "fraud": _tailored("deceiving others or selling what is forbidden"),
    "extortion": _tailored("forcing somebody to give something"),
}


def generic_preprompts(templates: tuple[str, ...], adjectives: tuple[str, ...]) -> list[str]:
    """Return every template with every adjective; a template without a slot stands once."""
    return list(dict.fromkeys(template.replace(SLOT, adjective) for template in templates for adjective in adjectives))


def with_preprompt(prompt: Dialog, text: str) -> tuple[Message, ...]:
    """Return the messages of a prompt with a pre-prompt as, or before, its system message."""
    system = prompt.messages[:1] if prompt.messages[0].role == "system" else ()
    said = "\n\n".join([text, *(message.content for message in system)])
    return (Message(role="system", content=said), *prompt.messages[len(system) :])
