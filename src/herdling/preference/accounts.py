"""Who may do what: users, invite links, sessions, throttled logins.

Passwords are kept as argon2id hashes; of invite and session tokens only the SHA-256 is kept, so a stolen database opens no door. Each user has a random
pseudonym: the only name that leaves the database.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from herdling.base.artifact import text_fingerprint
from herdling.base.errors import Refused
from herdling.preference.database import Database, log
from herdling.preference.schema import invitations, login_failures, sessions, users

Role = Literal["annotator", "reviewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may: an annotator judges, a reviewer sees the numbers and sets judgements aside, an admin manages all."""
SHORTEST_PASSWORD, LONGEST_PASSWORD, LONGEST_NAME = 10, 1000, 64
MAX_FAILURES, FAILURE_SECONDS = 5, 15 * 60.0
MEMORY_SECONDS = 5.0
"""How long a session is believed without asking the database again: a page asks with every key press that counts."""
_HASHER = PasswordHasher()


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
        self._lock = threading.Lock()
        self._changes = 0
        self._remembered: dict[str, tuple[User, float]] = {}

    def add(self, name: str, password: str, role: Role) -> User:
        """Make a user without an invitation: the first admin, from the command line. Raises `Refused` ("name taken", "weak password", "bad name")."""
        values = self._new_user(name, password)
        return self._database.write(lambda tx: self._insert(tx, values | {"role": role}))

    def invite(self, role: Role, by: int, *, valid_seconds: float = 7 * 86400) -> str:
        """Return the token of a new invite link, good for one account of this role. It is shown once: only its hash is kept."""
        token, now = secrets.token_urlsafe(24), self._clock()

        def work(tx: sa.Connection) -> None:
            tx.execute(sa.insert(invitations).values(token_hash=text_fingerprint(token), role=role, invited_by=by, expires=now + valid_seconds))
            log(tx, now, "invited", user=by, role=role)

        self._database.write(work)
        return token

    def invitation(self, token: str) -> Role:
        """Return the role that an unused invitation gives. Raises `Refused` ("invite invalid", "invite used", "invite expired")."""
        with self._database.read() as tx:
            return self._invitation(tx, token)

    def accept(self, token: str, name: str, password: str) -> User:
        """Use up an invitation and make its user. Raises `Refused` as `invitation` and `add` do; a refused attempt uses nothing up."""
        self.invitation(token)  # strangers must not make us hash passwords
        values = self._new_user(name, password)

        def work(tx: sa.Connection) -> User:
            user = self._insert(tx, values | {"role": self._invitation(tx, token)})
            unused = sa.and_(invitations.c.token_hash == text_fingerprint(token), invitations.c.used_by.is_(None))
            if not tx.execute(sa.update(invitations).where(unused).values(used_by=user.id)).rowcount:
                raise Refused("invite used", "somebody was faster; ask for a new link")
            return user

        return self._database.write(work)

    def login(self, name: str, password: str, *, valid_seconds: float = 14 * 86400) -> str:
        """Return a new session token.

        Raises:
            Refused: "wrong login" (name or password; it does not say which), or "too many attempts" after 5 failures in 15 minutes for this name.
        """
        name, now = _plain(name)[:LONGEST_NAME], self._clock()

        def begin(tx: sa.Connection) -> sa.Row[Any] | None:
            # The failure is noted before the password is looked at: many guesses at once are as many failures.
            tx.execute(sa.delete(login_failures).where(login_failures.c.at <= now - FAILURE_SECONDS))
            failures = tx.scalar(sa.select(sa.func.count()).select_from(login_failures).where(login_failures.c.name == name)) or 0
            if failures >= MAX_FAILURES:
                raise Refused("too many attempts", f"{MAX_FAILURES} logins failed in {FAILURE_SECONDS / 60:.0f} minutes; wait and try again")
            tx.execute(sa.insert(login_failures).values(name=name, at=now))
            return tx.execute(sa.select(users).where(users.c.name == name, users.c.active)).one_or_none()

        user = self._database.write(begin)
        # Without such a user a hash is computed all the same, so that a wrong name takes as long as a wrong password.
        if not _verified(user.password_hash if user else _hash_of_nobody(), password) or user is None:
            raise Refused("wrong login", "no active account has this name and password")
        token = secrets.token_urlsafe(24)

        def enter(tx: sa.Connection) -> None:
            tx.execute(sa.delete(login_failures).where(login_failures.c.name == name))
            tx.execute(sa.delete(sessions).where(sessions.c.expires <= now))
            tx.execute(sa.insert(sessions).values(token_hash=text_fingerprint(token), user_id=user.id, expires=now + valid_seconds))
            log(tx, now, "login", user=user.id)

        self._database.write(enter)
        self._forget()
        return token

    def session(self, token: str) -> User | None:
        """Return whose session this is, or None when it is unknown, over, or its user was deactivated. One indexed read, which is remembered."""
        remembered = self.remembered(token)
        if remembered is not None:
            return remembered
        changes, digest, now = self._changes, text_fingerprint(token), self._clock()
        known = sa.and_(sessions.c.token_hash == digest, sessions.c.expires > now, users.c.active)
        with self._database.read() as tx:
            row = tx.execute(sa.select(users, sessions.c.expires).join(sessions, sessions.c.user_id == users.c.id).where(known)).one_or_none()
        if row is None:
            return None
        user = _user(row)
        with self._lock:
            if changes == self._changes:  # else it was read before a change, and may be what it no longer is
                self._remembered[digest] = user, min(row.expires, now + MEMORY_SECONDS)
        return user

    def remembered(self, token: str) -> User | None:
        """Return whose session this is if that was read lately, without asking the database; None says nothing.

        What this process changes holds at once, what another one changes (a closed account, another role) after `MEMORY_SECONDS`.
        """
        user, until = self._remembered.get(text_fingerprint(token), (None, 0.0))
        return user if until > self._clock() else None

    def _forget(self) -> None:
        with self._lock:
            self._changes += 1
            self._remembered.clear()

    def logout(self, token: str) -> None:
        """End a session; unknown tokens are fine."""
        self._database.write(lambda tx: tx.execute(sa.delete(sessions).where(sessions.c.token_hash == text_fingerprint(token))))
        self._forget()

    def set_password(self, user: int, password: str) -> None:
        """Give a user a new password and end all sessions of that user. Raises `Refused` ("weak password", "unknown user")."""
        self._change(user, "password set", ends_sessions=True, password_hash=_hash(password))

    def set_active(self, user: int, active: bool) -> None:
        """Open or close an account. Closing ends its sessions; its judgements stay. Raises `Refused` ("unknown user")."""
        self._change(user, "account opened" if active else "account closed", ends_sessions=not active, active=active)

    def set_role(self, user: int, role: Role) -> None:
        """Change what a user may do. Raises `Refused` ("unknown user")."""
        self._change(user, f"made {role}", ends_sessions=False, role=role)

    def users(self) -> list[User]:
        """Return all users, by name."""
        with self._database.read() as tx:
            return [_user(row) for row in tx.execute(sa.select(users).order_by(users.c.name))]

    def _change(self, user: int, kind: str, *, ends_sessions: bool, **values: Any) -> None:
        def work(tx: sa.Connection) -> None:
            if not tx.execute(sa.update(users).where(users.c.id == user).values(values)).rowcount:
                raise Refused("unknown user", f"nobody has the number {user}")
            if ends_sessions:
                tx.execute(sa.delete(sessions).where(sessions.c.user_id == user))
            log(tx, self._clock(), kind, user=user)

        self._database.write(work)
        self._forget()

    def _new_user(self, name: str, password: str) -> dict[str, Any]:
        name = _plain(name)
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise Refused("bad name", f"found {len(name)} characters, expected 1 to {LONGEST_NAME} that can be printed")
        pseudonym = f"annotator-{secrets.token_hex(5)}"
        return {"name": name, "password_hash": _hash(password), "pseudonym": pseudonym, "active": True, "created": self._clock()}

    def _insert(self, tx: sa.Connection, values: dict[str, Any]) -> User:
        if tx.execute(sa.select(users.c.id).where(users.c.name == values["name"])).first():
            raise Refused("name taken", f"there is an account {values['name']!r} already")
        number = tx.execute(sa.insert(users).values(values)).inserted_primary_key
        assert number is not None
        log(tx, self._clock(), "account made", user=number[0], role=values["role"])
        return _user(tx.execute(sa.select(users).where(users.c.id == number[0])).one())

    def _invitation(self, tx: sa.Connection, token: str) -> Role:
        row = tx.execute(sa.select(invitations).where(invitations.c.token_hash == text_fingerprint(token))).one_or_none()
        if row is None:
            raise Refused("invite invalid", "this link was not made here; ask for a new one")
        if row.used_by is not None:
            raise Refused("invite used", "this link has made its account; ask for a new one")
        if row.expires <= self._clock():
            raise Refused("invite expired", "this link is too old; ask for a new one")
        role: Role = row.role
        return role


def _hash(password: str) -> str:
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise Refused("weak password", f"found {len(password):,} characters, expected {SHORTEST_PASSWORD} to {LONGEST_PASSWORD:,}")
    return _HASHER.hash(password)


def _verified(known: str, password: str) -> bool:
    try:
        return _HASHER.verify(known, password[: LONGEST_PASSWORD + 1])
    except VerifyMismatchError:
        return False


@cache
def _hash_of_nobody() -> str:
    return _HASHER.hash(secrets.token_urlsafe())


def _plain(name: str) -> str:
    """Return a name as it is compared: without outer spaces, in lower case."""
    return name.strip().lower()


def _user(row: sa.Row[Any]) -> User:
    return User(id=row.id, name=row.name, role=row.role, pseudonym=row.pseudonym, active=row.active)
