"""Which database a URL names."""

from __future__ import annotations

from pathlib import Path

from .store import Store

NAMED = "postgresql://USER@HOST/NAME, or sqlite:PATH for a file"


def opened(url: str, *, read_only: bool = False) -> Store:
    """Open a database. Raises ValueError, StoreAwayError."""
    if url.startswith("sqlite:") and url != "sqlite:":
        from .sqlite import SqliteStore

        return SqliteStore(Path(url.removeprefix("sqlite:")), read_only=read_only)
    if url.startswith(("postgresql://", "postgres://")):
        try:
            from .postgres import PostgresStore
        except ImportError as exc:
            raise ValueError("PostgreSQL needs psycopg: pip install 'yukimi[city]'") from exc
        return PostgresStore(url, read_only=read_only)
    raise ValueError(f"{url}: not {NAMED}")
