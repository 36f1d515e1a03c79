"""One database, SQLite or PostgreSQL: connections, transactions that happen whole or not at all, migrations."""

from __future__ import annotations


class Database:
    """Connections to one database."""

    def __init__(self, url: str) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Give all connections back."""
        raise NotImplementedError
