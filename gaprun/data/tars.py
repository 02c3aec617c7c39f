"""Reading a tar's structure without unpacking it: names, offsets and lengths, up to where it is broken."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from gaprun.data.text import printable

_NAME = re.compile(
    r"((?:.*/)?[^/.]+)\.([^/]+)"
)  # WebDataset's rule: a key ends at the first dot of the base name


@dataclass
class Group:
    """The members of one sample: its key and, by extension (all after the first dot, lower case), (offset, length)."""

    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass
class Structure:
    """A tar's samples in order, the members that are no sample's, and why reading ended early, if it did.

    `strays`: what is no plain file with a key and an extension. `duplicates`: a name that stands twice in one sample.
    """

    groups: list[Group] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    broken: str | None = None


def read_structure(path: Path) -> Structure:
    """Walk the headers of `path` and group members by WebDataset's rule: one key, one after the other.

    Members of a key that stand apart complete its sample where it lacks them; where it has them already they are
    another sample of that key. Nothing is extracted, so a member's name (`../x`, absolute, a link) can do no harm.
    A tar that ends early gives what lies before that, and `broken`.
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
                if match is None or not member.isfile() or member.issparse():
                    if not member.isdir():
                        found.strays.append(member.name)
                    continue
                _place(found, match[1], printable(match[2].lower()), member)
            else:
                found.broken = _improper_end(path, tar.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        found.broken = str(error) or type(error).__name__
    found.groups = _completed(found.groups)
    for group in found.groups:
        group.key = printable(group.key)
    return found


def _place(found: Structure, key: str, extension: str, member: tarfile.TarInfo) -> None:
    if not found.groups or found.groups[-1].key != key:
        found.groups.append(Group(key))
    members = found.groups[-1].members
    if extension in members:
        found.duplicates.append(member.name)
    else:
        members[extension] = (member.offset_data, member.size)


def _completed(groups: list[Group]) -> list[Group]:
    """The groups, those of one key joined into the first where no two of them have an extension in common."""
    by_key: dict[str, list[Group]] = {}
    for group in groups:
        by_key.setdefault(group.key, []).append(group)
    for same in by_key.values():
        extensions = [extension for group in same for extension in group.members]
        if len(same) > 1 and len(set(extensions)) == len(extensions):
            for group in same[1:]:
                same[0].members |= group.members
                group.members = {}
    return [group for group in groups if group.members]


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
