"""Evaluations say which parts their protocol has, and options that change a number are part of its name.

Earlier versions wrote only the name and read it by its look. This is the last time that one is taken apart.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

EVALUATIONS = sa.table(
    "evaluations",
    *(
        sa.column(name)
        for name in ("id", "task", "protocol", "options_hash", "checkpoint_hash", "pool", "transform")
    ),
    sa.column("options", sa.JSON),
)
METRICS = sa.table("metrics", sa.column("evaluation_id"), sa.column("protocol"))
USUAL: dict[str, dict[str, Any]] = {
    "retrieval": {"ties": "pessimistic", "draws": 10},
    "zeroshot": {"templates": None},
    "transfer": {"templates": None},
    "clustering": {"templates": None},
    "probe": {"shots": None, "normalise": True, "C": None},
}


def upgrade() -> None:
    """Add `pool` and `transform`, and fill them from the names; put options of gaprun's own tasks into the names."""
    op.add_column("evaluations", sa.Column("pool", sa.BigInteger(), nullable=True))
    op.add_column("evaluations", sa.Column("transform", sa.String(), nullable=False, server_default=""))
    connection = op.get_bind()
    e = EVALUATIONS.c
    # Options that another program's results brought in are that program's: their names stay.
    own = e.checkpoint_hash.not_like("record:%")
    kinds = sa.select(e.task, e.protocol, e.options_hash, own, sa.func.min(e.id))
    for task, protocol, options_hash, ours, example in connection.execute(
        kinds.group_by(e.task, e.protocol, e.options_hash, own)
    ).all():
        options = connection.execute(sa.select(e.options).where(e.id == example)).scalar_one() if ours else {}
        name, pool, transform = parts(task, protocol, options)
        if (name, pool, transform) == (protocol, None, ""):
            continue
        alike = (e.task == task) & (e.protocol == protocol) & (e.options_hash == options_hash)
        alike &= own if ours else sa.not_(own)
        if name != protocol:
            of_them = METRICS.c.evaluation_id.in_(sa.select(e.id).where(alike))
            connection.execute(sa.update(METRICS).where(of_them).values(protocol=name))
        connection.execute(
            sa.update(EVALUATIONS).where(alike).values(protocol=name, pool=pool, transform=transform)
        )


def parts(task: str, protocol: str, options: dict[str, Any]) -> tuple[str, int | None, str]:
    """The name of now, the pool's size, and what was done to the embeddings, of a protocol as it was written."""
    base, _, label = protocol.partition("+")
    if task == "probe" and re.fullmatch(r"full(-raw)?(-C.+)?", base):
        base = "full"
    size = re.fullmatch(r"pool(\d+)", base)
    done = [label] if label else []
    if task == "shift" and base == "centred":
        done.append("centre")
    elif task == "shift" and base.startswith("shift="):
        fraction = float(base.removeprefix("shift="))
        done.append("shift" if fraction == 1 else f"shift,fraction={fraction}")
    told = [
        _told(key, options[key])
        for key, usual in USUAL.get(task, {}).items()
        if key in options and options[key] != usual and (key != "draws" or size)
    ]
    name = ",".join([base, *told]) + (f"+{label}" if label else "")
    return name, int(size[1]) if size else None, "+".join(done)


def _told(option: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, float) and float(short := f"{value:g}") == value:
        text = short
    if not re.fullmatch(r"[\w./-]{1,40}", text):
        text = "own-" + hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
    return f"{option}={text}"
