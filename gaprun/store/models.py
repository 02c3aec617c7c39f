"""The database's tables: runs, their evaluations, the metrics these gave, and the trajectory of training.

Final metrics stand apart from step history, so that a comparison never reads the (much larger) trajectory.
Every metric hangs on an evaluation, which names the checkpoint, data, protocol, definition and code that
produced it. A change here needs a migration in `migrations/versions` and the new revision in `schema.HEAD`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

STATUSES = ("queued", "running", "finished", "failed", "interrupted")


class UtcTime(TypeDecorator[datetime]):
    """A moment as aware UTC on every dialect; SQLite itself forgets time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times in the database are aware: pass datetime.now(UTC)")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite only counts up a primary key that is declared INTEGER.
BigId = BigInteger().with_variant(Integer, "sqlite")
Document = JSON(none_as_null=True)


class Base(DeclarativeBase):
    """Names every constraint, because migrations can only change what has a name."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: String(),
        int: BigInteger(),
        float: Double(),
        datetime: UtcTime(),
    }


class Run(Base):
    """One job: a recipe trained with one seed, or external results (`kind`) that stand beside such runs.

    `notes` are gaprun's own, `tags` and `note` a person's.
    """

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint("status in ('" + "', '".join(STATUSES) + "')", name="status"),
        CheckConstraint("kind in ('train', 'external')", name="kind"),
        Index(None, "recipe"),
        Index(None, "recipe_hash"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    recipe: Mapped[str]
    kind: Mapped[str]
    seed: Mapped[int | None]
    recipe_hash: Mapped[str]
    resolved_recipe: Mapped[dict[str, Any]] = mapped_column(Document)
    status: Mapped[str]
    error: Mapped[str | None]
    created: Mapped[datetime]
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    heartbeat: Mapped[datetime | None]
    host: Mapped[str | None]
    pid: Mapped[int | None]
    step: Mapped[int]
    total_steps: Mapped[int]
    environment: Mapped[dict[str, Any]] = mapped_column(Document)
    code_version: Mapped[str]
    folder: Mapped[str]
    checkpoint: Mapped[str | None]
    checkpoint_hash: Mapped[str | None]
    notes: Mapped[dict[str, Any] | None] = mapped_column(Document)
    tags: Mapped[str] = mapped_column(default="", server_default="")
    note: Mapped[str] = mapped_column(default="", server_default="")

    @property
    def tag(self) -> list[str]:
        """Its tags, as conditions name them; `tags` holds them separated and surrounded by spaces."""
        return self.tags.split()


class RunClaim(Base):
    """The process that may write a run while it is at it: a random token, and its `liveness.this_process`."""

    __tablename__ = "claims"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    token: Mapped[str]
    owner: Mapped[str]


class DatabaseIdentity(Base):
    """One row: what this database calls itself in the folders of its runs."""

    __tablename__ = "identity"

    id: Mapped[str] = mapped_column(primary_key=True)


class Evaluation(Base):
    """One task on one split under one protocol, of one checkpoint; unique by what decides its values.

    `model_hash` is the identity of the measured model (`gaprun.model.identity`), "" where it was not recorded: rows of
    earlier versions and results of other programs. `device` says where and how it ran, such as `cpu fp32`.
    `protocol` is the id of a `gaprun.protocols.Protocol`; readers choose by `pool` and `transform` (its `done`).
    """

    __tablename__ = "evaluations"
    __table_args__ = (
        UniqueConstraint(
            "run_id",
            "checkpoint_hash",
            "task",
            "data_fingerprint",
            "protocol",
            "options_hash",
            "definition",
            "model_hash",
            name="uq_evaluations_key",
        ),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    checkpoint_hash: Mapped[str]
    step: Mapped[int]
    task: Mapped[str]
    dataset: Mapped[str]
    split: Mapped[str]
    data_fingerprint: Mapped[str]
    protocol: Mapped[str]
    options: Mapped[dict[str, Any]] = mapped_column(Document)
    options_hash: Mapped[str]
    definition: Mapped[int]
    code_version: Mapped[str]
    created: Mapped[datetime]
    details: Mapped[str | None]
    model_hash: Mapped[str] = mapped_column(default="", server_default="")
    device: Mapped[str] = mapped_column(default="", server_default="")
    pool: Mapped[int | None]
    transform: Mapped[str] = mapped_column(default="", server_default="")


class StoredMetric(Base):
    """One number. `n` items of dimension `d` went into it; NaN and infinity are kept as NULL."""

    __tablename__ = "metrics"
    __table_args__ = (
        UniqueConstraint("evaluation_id", "name", name="uq_metrics_name"),
        # The two questions asked: one metric of every run (compare), every metric of one run (show).
        Index(None, "name"),
        Index(None, "run_id"),
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(BigId, ForeignKey("evaluations.id", ondelete="CASCADE"))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    name: Mapped[str]
    dataset: Mapped[str]
    split: Mapped[str]
    protocol: Mapped[str]
    value: Mapped[float | None]
    n: Mapped[int | None]
    d: Mapped[int | None]


class Trajectory(Base):
    """What training recorded at one step; the clock is (step, samples_seen)."""

    __tablename__ = "trajectory"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    samples_seen: Mapped[int | None]
    epoch: Mapped[float | None]
    temperature: Mapped[float | None]
    logit_scale: Mapped[float | None]
    loss: Mapped[float | None]
    gap: Mapped[float | None]
    learning_rate: Mapped[float | None]
    matched_cosine: Mapped[float | None]
    mismatched_share: Mapped[float | None]
