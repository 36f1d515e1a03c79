"""The tables, as today's code reads and writes them; `migrations/` is how a database gets there, and a test holds the two equal.

Times are seconds since the epoch. `judgements`, `events` and `guidelines` are append-only: triggers refuse to change or delete a row. What may change is the
state of a hold (`assignments`) and of the queue.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
_JSON = JSON(none_as_null=True)
APPEND_ONLY = ("judgements", "events", "guidelines")

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("pseudonym", String(32), nullable=False, unique=True),
    Column("active", Boolean, nullable=False),
    Column("created", Double, nullable=False),
)
invitations = Table(
    "invitations",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("invited_by", ForeignKey("users.id"), nullable=False),
    Column("expires", Double, nullable=False),
    Column("used_by", ForeignKey("users.id")),
)
sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    Column("expires", Double, nullable=False),
)
login_failures = Table(
    "login_failures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("at", Double, nullable=False),
    Index(None, "name", "at"),
)
campaigns = Table(
    "campaigns",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("settings", _JSON, nullable=False),
    Column("created", Double, nullable=False),
)
guidelines = Table(
    "guidelines",
    metadata,
    Column("campaign", ForeignKey("campaigns.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("at", Double, nullable=False),
)
rounds = Table(
    "rounds",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign", ForeignKey("campaigns.name"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("opened", Double, nullable=False),
    Column("closed", Double),
    Column("settings", _JSON),  # those that held when it closed
    Column("fingerprint", String(64)),
    UniqueConstraint("campaign", "number"),
)
tasks = Table(
    "tasks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign", ForeignKey("campaigns.name"), nullable=False),
    Column("round_id", ForeignKey("rounds.id")),  # none: a gold item, which serves every round
    Column("kind", String(8), nullable=False),  # prompt, gold, repeat
    Column("source", String(200), nullable=False),
    Column("dialog", _JSON, nullable=False),
    Column("digest", String(64)),  # of a gold item: handed in twice, it stands once
    Column("parent_id", ForeignKey("tasks.id")),
    Column("repeat_of", ForeignKey("tasks.id")),
    Column("owner", ForeignKey("users.id")),  # who alone may see it; none: everybody
    Column("attempt", Integer, nullable=False),
    Column("draws", _JSON),
    Column("responses", _JSON),
    Column("answer", _JSON),
    Column("complete", Boolean, nullable=False),
    Column("created", Double, nullable=False),
    UniqueConstraint("campaign", "digest"),
    UniqueConstraint("parent_id", "owner"),
    UniqueConstraint("repeat_of", "owner"),
    Index(None, "round_id", "complete"),
    Index(None, "owner"),
)
prompts = Table(
    "prompts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("campaign", ForeignKey("campaigns.name"), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("dialog", _JSON, nullable=False),
    Column("source", String(200), nullable=False),
    Column("task_id", ForeignKey("tasks.id")),
    UniqueConstraint("campaign", "digest"),
    Index(None, "campaign", "task_id", "id"),
)
assignments = Table(
    "assignments",
    metadata,
    Column("task_id", ForeignKey("tasks.id"), primary_key=True),
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("campaign", ForeignKey("campaigns.name"), nullable=False),
    Column("slot", Integer),  # which of the task's places is taken; none: gives it to others
    Column("state", String(8), nullable=False),  # held, expired, judged, skipped
    Column("lease", String(32), nullable=False),
    Column("began", Double, nullable=False),
    Column("expires", Double, nullable=False),
    Column("side_seed", BigInteger, nullable=False),
    Column("draft", _JSON, nullable=False),
    UniqueConstraint("task_id", "slot"),
    Index(None, "campaign", "user_id", "state"),
    Index(None, "state", "expires"),
)
judgements = Table(
    "judgements",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("task_id", ForeignKey("tasks.id"), nullable=False),
    Column("user_id", ForeignKey("users.id"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("kind", String(10), nullable=False),  # judged, undone, set aside
    Column("round_id", ForeignKey("rounds.id"), nullable=False),
    Column("judgement", _JSON),
    Column("left_response", Integer, nullable=False),  # which of the task's responses stood on the left
    Column("side_seed", BigInteger, nullable=False),
    Column("guidelines_version", Integer, nullable=False),
    Column("seconds", Double),
    Column("reason", Text),
    Column("by_user", ForeignKey("users.id"), nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("task_id", "user_id", "revision"),
    Index(None, "round_id", "user_id"),
)
events = Table(
    "events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("campaign", String(64)),
    Column("user_id", Integer),
    Column("task_id", Integer),
    Column("facts", _JSON, nullable=False),
    Index(None, "campaign", "kind"),
)
submissions = Table(
    "submissions",
    metadata,
    Column("user_id", ForeignKey("users.id"), primary_key=True),
    Column("key", String(100), primary_key=True),
    Column("request", String(64), nullable=False),
    Column("result", _JSON),
    Column("at", Double, nullable=False),
)
splits = Table(
    "splits",
    metadata,
    Column("campaign", ForeignKey("campaigns.name"), primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("split", String(5), nullable=False),  # train, test: the first decision for an opening stands in all later rounds
)
