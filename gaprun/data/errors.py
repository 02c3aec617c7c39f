"""The one error of this package that callers may count instead of stopping: a sample that cannot be read."""

from __future__ import annotations

from gaprun.errors import Failure


class DamagedSample(Failure):
    """A picture whose bytes are missing, short or undecodable; names the sample and its shard where known."""

    def __init__(self, key: str | None, shard: str | None, reason: str, kind: str = "undecodable") -> None:
        """`shard` is the tar's path or name; both names may be None when only the bytes are known.

        `kind` is the reason under which it is counted: `undecodable`, `too_large`, `float_pixels`, `integer_pixels`.
        """
        self.key, self.shard, self.reason, self.kind = key, shard, reason, kind
        sample = f"sample '{key}'" if key is not None else "picture"
        place = f" in {shard}" if shard is not None else ""
        super().__init__(f"{sample}{place} is damaged: {reason} (`gaprun data check` lists all such samples)")

    def __reduce__(self) -> tuple[type[DamagedSample], tuple[str | None, str | None, str, str]]:
        """Rebuild from its facts, so that the error survives the way out of a worker process."""
        return type(self), (self.key, self.shard, self.reason, self.kind)
