"""What was left out, cleaned or assumed on the way into a split: a reason, how often, and the first names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from gaprun.data.text import printable

NAMES = 20  # names kept for each reason; the counts are always complete

# Every reason that a report can hold, with what it means.
REASONS = {
    "alpha": "transparency is dropped, as open_clip does",
    "ambiguous_name": "left out: several pictures could be meant by the name",
    "animated": "the first frame is taken",
    "caption_from_json": "the captions of the .json are taken; the .txt beside it says something else",
    "caption_from_other": "the captions are taken from texts of other names than .txt and .json",
    "caption_from_txt": "the caption of the .txt is taken; the .json beside it says something else",
    "caption_whitespace": "white space was collapsed",
    "caption_without_image": "left out: no picture of that name (in shards: no jpg, jpeg, png or webp of that key)",
    "class_without_picture": "kept among the classes that zero-shot chooses from, though no picture here has it",
    "cmyk": "kept; RGB when read",
    "dotted_name": "left out: WebDataset's key ends at a name's first dot, so that several pictures share one key",
    "duplicate_member": "left out: a name that stands twice in one sample; the first is kept",
    "empty_caption": "left out",
    "float_pixels": "left out: pixels are floating-point numbers of unknown range; save them with 8 bits",
    "further_picture": "left out: a second picture of one sample (the first of jpg, jpeg, png, webp is kept)",
    "greyscale": "kept; RGB when read",
    "hidden": "left out: hidden files and folders, __MACOSX, @eaDir",
    "integer_pixels": "left out: pixels are 32-bit integers of unknown range; save them with 8 bits",
    "label_without_name": "kept; no classnames.txt beside the shards names the classes, zero-shot needs one",
    "json_without_caption": "the .json has no text, or list of texts, under caption, captions, sentences, text or TEXT",
    "label_from_json": "the label of the .json is taken; the .cls beside it says something else",
    "listed_captions": "read as several captions: the text is a list of texts",
    "no_caption": "no caption belongs to the picture",
    "no_class": "left out: the picture lies in no class folder",
    "no_picture": "left out: the file's ending is no picture's",
    "not_enlarged": "kept; already below --size",
    "not_in_karpathy": "left out: the split file lacks the picture",
    "numbered_classes": "the file has no class_names: classes are called 0, 1, ..., and zero-shot asks for these words",
    "other_caption": "not read: the .json has another text under a second name of captions",
    "other_column": "not read: the column could be meant too; --caption-column or --image-column names the one to read",
    "other_language": "left out: captions in other languages than --language names, or in none that is said",
    "recoded": "kept as PNG",
    "repeated_caption": "kept; the same caption twice for one picture",
    "repeated_class_name": "kept; zero-shot cannot tell classes of one name apart, and a tie is a miss",
    "repeated_key": "kept under a longer key: the key comes more than once",
    "repeated_picture": "joined: several entries of one picture file",
    "short_row": "left out: the row has too few columns",
    "sixteen_bit": "kept; scaled to 8 bits by 1/256",
    "stray_member": "left out: no file with a key and an extension",
    "too_large": "left out: above 179 million pixels or 256 MiB",
    "truncated_shard": "the shard ends early; what lies before is kept",
    "turned": "kept as stored, as open_clip does: EXIF asks for the picture to be turned or mirrored",
    "undecodable": "left out: the picture does not decode",
    "undecodable_caption": "left out: not UTF-8, or with control characters",
    "undecodable_json": "the .json is not used: it is broken",
    "unknown_array": "left out: known are images, labels, split, class_names and templates",
    "unknown_split_picture": "left out: no split list names the picture",
    "unquoted_delimiter": "kept whole: the caption holds delimiters without quotes",
    "unread_text": "left out: a text of another name than .txt and .json",
    "unreadable": "left out: the file cannot be read",
    "unreadable_label": "the label is not used: it is no whole number from 0",
}


class Tally:
    """Counts by reason, with the first names of each."""

    def __init__(
        self, counts: Mapping[str, int] | None = None, examples: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """Start from `counts` and `examples`."""
        self.counts: Counter[str] = Counter(counts or {})
        self.examples = {reason: list(names) for reason, names in (examples or {}).items()}

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Count `reason`, one of `REASONS`, for `name`."""
        if reason not in REASONS:
            raise KeyError(reason)
        self.counts[reason] += count
        names = self.examples.setdefault(reason, [])
        if len(names) < NAMES:
            names.append(printable(name))

    def join(self, counts: Mapping[str, int], examples: Mapping[str, Sequence[str]]) -> None:
        """Add what another tally counted, after what is here."""
        self.counts.update(counts)
        for reason, names in examples.items():
            self.examples[reason] = (self.examples.get(reason, []) + list(names))[:NAMES]

    def __str__(self) -> str:
        """`reason count` for each, with the first name of the first reason."""
        counts = ", ".join(f"{reason} {count}" for reason, count in sorted(self.counts.items()))
        first = next((names[0] for names in self.examples.values() if names), None)
        return f"{counts} (such as {first})" if first else counts
