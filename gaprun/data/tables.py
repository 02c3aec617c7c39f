"""Reading tables of (image, caption) rows: CSV and its kin, and Flickr's token files.

What a row means is never guessed: a caption with unquoted delimiters is kept whole where it is the last column, and a
row that cannot be read one way only is refused with its line number.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gaprun.data.division import own_split
from gaprun.data.languages import language_of, languages_to_keep
from gaprun.data.tally import Tally
from gaprun.data.text import listed, read_text
from gaprun.errors import UserError

IMAGE_COLUMNS = ("image", "image_name", "file_name", "filename", "filepath", "image_path", "file")
SPLIT_COLUMN = "split"
_NO_TABLES = {
    *(
        ".jsonl",
        ".ndjson",
        ".parquet",
        ".arrow",
        ".feather",
        ".xlsx",
        ".xls",
        ".ods",
        ".pkl",
        ".gz",
        ".bz2",
        ".xz",
    ),
    *(".zst", ".zip", ".tar"),
}
CAPTION_COLUMNS = ("caption", "captions", "raw", "comment", "text", "title", "sentence", "sentences")
# Further columns of that kind: `caption_de`, `text2`, `alt_text`; not a column of their ids.
_LIKE_CAPTIONS = re.compile(
    r"(caption|text|sentence)s?[ _-]?(\d+|(?!id$)[a-z]{2}([_-][a-z]{2,4})?)|.+[ _-](caption|text|sentence)s?",
    re.IGNORECASE,
)
_PICTURE_ROW = re.compile(r"[^,\t|;\"]+\.(jpe?g|png|webp|bmp|gif|tiff?)\"?\s*[,\t|;]", re.IGNORECASE)
_TOKEN = re.compile(r"(.+)#(\d+)", re.DOTALL)


@dataclass
class Entry:
    """One picture as its annotation file knows it; `number` is its COCO id where it has one.

    languages: of each caption, "" where that is not said; empty where the file says it of none.
    """

    file: str
    captions: list[str] = field(default_factory=list)
    id: int | str | None = None
    number: int | None = None
    split: str | None = None
    languages: list[str] = field(default_factory=list)

    def add(self, captions: list[str], language: str = "") -> None:
        """Add captions in a language."""
        self.captions += captions
        self.languages += [language] * len(captions)


@dataclass(frozen=True)
class _Row:
    """One row: where it begins and ends (line numbers from 1), its text, and its fields."""

    first: int
    last: int
    text: str
    fields: list[str]


def read_table(
    path: Path,
    image_column: str | None = None,
    caption_column: str | None = None,
    tally: Tally | None = None,
) -> list[Entry]:
    """Entries of a table with a header, one (image, caption) pair a row; rows of one image are joined.

    UTF-8, or UTF-16 and UTF-32 with a byte order mark; any line ends. The delimiter (comma, tab, bar or semicolon) is
    the one that the header uses most. A column `split` says each picture's split, and one of `LANGUAGE_NAMES` each
    caption's language. Counted in `tally`: `unquoted_delimiter`, `short_row`, `listed_captions`,
    `other_column`. Raises UserError where a column is missing, and for a row that cannot be read, with its line.
    """
    if path.suffix.lower() in _NO_TABLES:
        raise UserError(
            f"--captions {path}: {path.suffix} is not read: save it as CSV or TSV with a header, or as COCO captions "
            "JSON"
        )
    tally = Tally() if tally is None else tally
    text = read_text(path, "--captions")
    header = text.partition("\n")[0]
    delimiter = max(",\t|;", key=header.count)
    rows = _rows(text, delimiter, path)
    names = [name.strip() for name in next(rows, _Row(1, 1, "", [])).fields]
    image = _column(names, image_column, IMAGE_COLUMNS, path, "image")
    caption = _column(names, caption_column, CAPTION_COLUMNS, path, "caption")
    if image == caption:
        raise UserError(
            f"--captions {path}: the column '{names[image]}' cannot hold both file names and captions"
        )
    for i, name in enumerate(names):
        captions_too = caption_column is None and could_hold_captions(name)
        if (captions_too or (image_column is None and name in IMAGE_COLUMNS)) and i not in (image, caption):
            tally.add("other_column", name)
    split = _split_column(names, image, caption, path)
    entries: dict[str, Entry] = {}
    splits: dict[str, str | None] = {}
    for row in rows:
        fields, place = row.fields, f"line {row.first}"
        if not fields or fields == [""]:
            continue
        if len(fields) > len(names):
            fields = _whole_caption(row, len(names), caption, delimiter, path)
            tally.add("unquoted_delimiter", f"{fields[image].strip()}, {place}")
        if len(fields) <= max(image, caption) or not fields[image].strip():
            tally.add("short_row", f"{row.text.strip()[:60]}, {place}")
            continue
        name, captions = fields[image].strip(), listed(fields[caption])
        if captions is not None:
            tally.add("listed_captions", f"{name}, {place}")
        said_of = {head: field for head, field in zip(names, fields, strict=False) if head != names[caption]}
        entry = entries.setdefault(name, Entry(name, id=name))
        entry.add(captions if captions is not None else [fields[caption]], language_of(said_of))
        if split is not None:
            said = own_split(fields[split] if split < len(fields) else "", f"--captions {path} {place}")
            if splits.setdefault(name, said) != said:
                raise UserError(f"--captions {path} {place}: {name} is in {splits[name]} and in {said}")
    for entry in entries.values():
        entry.split = splits.get(entry.file)
    return list(entries.values())


def _rows(text: str, delimiter: str, path: Path) -> Iterator[_Row]:
    """The rows of `text`. Raises UserError where a quote is not closed, or closed only in a later row."""
    lines = text.split("\n")
    reader = csv.reader(
        (f"{line}\n" for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    first = 1
    try:
        for fields in reader:
            last = reader.line_num
            swallowed = next((n for n in range(first, last) if _PICTURE_ROW.match(lines[n])), None)
            if swallowed is not None:
                raise UserError(
                    f"--captions {path} line {first}: a quote opens here that is not closed before line "
                    f"{swallowed + 1}, which looks like a row of its own: close the quote, or double it"
                )
            yield _Row(first, last, "\n".join(lines[first - 1 : last]), fields)
            first = last + 1
    except csv.Error as error:
        unclosed = "unexpected end" in str(error) or reader.line_num > first
        reason = "a quote opens here and is never closed" if unclosed else str(error)
        raise UserError(f"--captions {path} line {first}: {reason}: close the quote, or double it") from None


def _whole_caption(row: _Row, columns: int, caption: int, delimiter: str, path: Path) -> list[str]:
    """The row's fields where its caption holds unquoted delimiters; UserError where they could be another column's."""
    if caption != columns - 1 or any(field in row.text for field in (f'{delimiter}"', f'{delimiter} "')):
        raise UserError(
            f"--captions {path} line {row.first} has {len(row.fields)} columns and the header {columns}: "
            f"put quotes around what holds '{delimiter}'"
        )
    return row.text.split(delimiter, columns - 1)


def read_tokens(path: Path) -> list[Entry]:
    """Entries of Flickr's token file: lines of `1000092795.jpg#0<tab>caption`. Raises UserError."""
    pairs = []
    for number, line in enumerate(read_text(path, "--captions").split("\n"), 1):
        name, tab, caption = line.partition("\t")
        if not tab and line.strip():
            raise UserError(f"--captions {path} line {number} has no tab: not a Flickr token file")
        if tab:
            counted = _TOKEN.fullmatch(name.strip())
            if not name.strip():
                raise UserError(f"--captions {path} line {number} names no picture")
            pairs.append((counted[1] if counted else name, caption))
    return joined(pairs)


def joined(pairs: list[tuple[str, str]]) -> list[Entry]:
    """One entry a picture, in the order of first mention, with its captions in theirs."""
    entries: dict[str, Entry] = {}
    for name, caption in pairs:
        name = name.strip()
        entries.setdefault(name, Entry(name, id=name)).captions.append(caption)
    return list(entries.values())


def in_languages(
    entries: Sequence[Entry], asked: Sequence[str], source: Path, tally: Tally
) -> Sequence[Entry]:
    """The entries with the captions of the languages `asked` for only; the others are counted in `tally`.

    Raises UserError where there are several languages and none is asked for (`languages_to_keep`).
    """
    counts = Counter(language for entry in entries for language in entry.languages)
    keep = languages_to_keep(counts, asked, str(source))
    if keep is None:
        return entries
    chosen = []
    for entry in entries:
        said = entry.languages or [""] * len(entry.captions)
        pairs = [pair for pair in zip(entry.captions, said, strict=True) if pair[1] in keep]
        if left := len(said) - len(pairs):
            tally.add("other_language", entry.file, left)
        chosen.append(
            replace(entry, captions=[pair[0] for pair in pairs], languages=[pair[1] for pair in pairs])
        )
    return chosen


def _split_column(names: list[str], image: int, caption: int, path: Path) -> int | None:
    found = [i for i, name in enumerate(names) if name.lower() == SPLIT_COLUMN and i not in (image, caption)]
    if len(found) > 1:
        raise UserError(f"--captions {path} has two columns '{SPLIT_COLUMN}'")
    return found[0] if found else None


def could_hold_captions(name: str) -> bool:
    """Whether captions may stand in a column, or under a key in JSON, of that name."""
    return name.lower() in CAPTION_COLUMNS or bool(_LIKE_CAPTIONS.fullmatch(name))


def _column(names: list[str], wanted: str | None, usual: tuple[str, ...], path: Path, kind: str) -> int:
    for name in (wanted,) if wanted else usual:
        if names.count(name) > 1:
            raise UserError(f"--captions {path} has two columns '{name}'")
        if name in names:
            return names.index(name)
    looked = wanted or " or ".join(usual[:2])
    raise UserError(
        f"--captions {path} has no column '{looked}' (it has: {', '.join(filter(None, names)) or 'none'}): "
        f"name it with --{kind}-column of `gaprun data captions`"
    )
