"""The tables of the ledger, and their migrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import JSON, Column, Float, Index, Integer, MetaData, String, Table, Text

VERSION: Final = 1
MIGRATIONS: Final[Mapping[int, Sequence[str]]] = {}
"""Statements that migrate from a version to the next one, valid in both databases."""

METADATA: Final = MetaData()

SCHEMA: Final = Table(
    "comfyloom_schema", METADATA, Column("version", Integer, primary_key=True, autoincrement=False)
)

MACHINES: Final = Table(
    "machines",
    METADATA,
    Column("key", String(36), primary_key=True),
    # The account: only its credentials may act on it.
    Column("base_url", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    # The intent, written before the launch.
    Column("kind", String(16), nullable=False),
    Column("server_type", Text, nullable=False),
    Column("workflow_version", Text, nullable=False),
    Column("launched_for", Integer, nullable=False),
    Column("known_servers", JSON(none_as_null=True)),
    Column("intended_at", Float, nullable=False),
    Column("state_file", Text, nullable=False),
    # The outcome.
    Column("server_id", Text),
    Column("ready_at", Float),
    Column("heartbeat_at", Float, nullable=False),
    Column("lease_s", Float, nullable=False),
    Column("stopping_at", Float),
    Column("ended_at", Float),
    Column("ended_by", String(64)),
    # The process that owns it.
    Column("owner_host", Text, nullable=False),
    Column("owner_machine", Text, nullable=False),
    Column("owner_boot_id", Text, nullable=False),
    Column("owner_namespace", Text, nullable=False),
    Column("owner_pid", Integer, nullable=False),
    Column("owner_started", Integer, nullable=False),
    Index("machines_open", "base_url", "user_id", "ended_at"),
)
"""Times are seconds since the epoch by the platform's clock, which several computers share."""
