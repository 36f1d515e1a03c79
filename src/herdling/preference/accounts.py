"""Who may do what: users, invite links, sessions, throttled logins.

Passwords are kept as argon2id hashes; of invite and session tokens only the SHA-256 is kept, so a stolen database opens no door. Each user has a random
pseudonym: the only name that leaves the database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from herdling.preference.database import Database

Role = Literal["annotator", "reviewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may: an annotator judges, a reviewer sees the numbers and sets judgements aside, an admin manages all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Somebody with an account."""

    id: int
    name: str
    role: Role
    pseudonym: str
    active: bool


class Accounts:
    """The users of one database. `clock` gives seconds since the epoch."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(self, name: str, password: str, role: Role) -> User:
        """Make a user without an invitation: the first admin, from the command line. Raises `Refused` ("name taken", "weak password", "bad name")."""
        raise NotImplementedError

    def invite(self, role: Role, by: int, *, valid_seconds: float = 7 * 86400) -> str:
        """Return the token of a new invite link, good for one account of this role. It is shown once: only its hash is kept."""
        raise NotImplementedError

    def invitation(self, token: str) -> Role:
        """Return the role that an unused invitation gives. Raises `Refused` ("invite invalid", "invite used", "invite expired")."""
        raise NotImplementedError

    def accept(self, token: str, name: str, password: str) -> User:
        """Use up an invitation and make its user. Raises `Refused` as `invitation` and `add` do; a refused attempt uses nothing up."""
        raise NotImplementedError

    def login(self, name: str, password: str, *, valid_seconds: float = 14 * 86400) -> str:
        """Return a new session token.

        Raises:
            Refused: "wrong login" (name or password; it does not say which), or "too many attempts" after 5 failures in 15 minutes for this name.
        """
        raise NotImplementedError

    def session(self, token: str) -> User | None:
        """Return whose session this is, or None when it is unknown, over, or its user was deactivated. One indexed read."""
        raise NotImplementedError

    def logout(self, token: str) -> None:
        """End a session; unknown tokens are fine."""
        raise NotImplementedError

    def set_password(self, user: int, password: str) -> None:
        """Give a user a new password and end all sessions of that user. Raises `Refused` ("weak password", "unknown user")."""
        raise NotImplementedError

    def set_active(self, user: int, active: bool) -> None:
        """Open or close an account. Closing ends its sessions; its judgements stay. Raises `Refused` ("unknown user")."""
        raise NotImplementedError

    def set_role(self, user: int, role: Role) -> None:
        """Change what a user may do. Raises `Refused` ("unknown user")."""
        raise NotImplementedError

    def users(self) -> list[User]:
        """Return all users, by name."""
        raise NotImplementedError
