"""Reading a tar's structure without unpacking it: names, offsets and lengths, up to where it is broken."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)")


@dataclass
class Group:
    """The members of one sample: its key and, by extension, (offset, length) of their data."""

    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class Structure:
    """A tar's samples in order, the members that are no sample's, and why reading ended early, if it did."""

    groups: list[Group] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    broken: str | None = None


def read_structure(path: Path) -> Structure:
    """Walk the headers of `path`. Members of one key must follow each other, as in WebDataset.

    Nothing is extracted, so a member's name (`../x`, absolute, a link) can do no harm; what is no plain file
    with a key and an extension is a stray. A tar that ends early gives what lies before that, and `broken`.
    """
    found = Structure()
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.offset_data + member.size > length:
                    found.broken = f"it ends within the member {member.name}"
                    break
                match = _NAME.fullmatch(member.name)
                if not member.isfile() or match is None:
                    found.strays.append(member.name)
                    continue
                key, extension = match[1], match[2].lower()
                if not found.groups or found.groups[-1].key != key:
                    found.groups.append(Group(key))
                found.groups[-1].members[extension] = (member.offset_data, member.size)
            else:
                found.broken = _improper_end(path, tar.offset)
    except (tarfile.TarError, OSError, EOFError) as error:
        found.broken = str(error) or type(error).__name__
    return found


def _improper_end(path: Path, offset: int) -> str | None:
    """Why the archive does not end properly at `offset`, or None.

    The format ends with a zeroed block; tarfile also takes the end of the file, or a header it cannot read
    after the first member, for the end, without a word.
    """
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(512)
    if len(block) == 512 and not block.strip(b"\0"):
        return None
    return f"its structure ends at byte {offset} without an end mark"
