"""Names as people read them where there is little room."""


def shortened(text: str, width: int) -> str:
    """`text` in `width` characters, with `…` for its middle: a name's end tells it from its like."""
    if len(text) <= width:
        return text
    if width < 3:
        return text[: max(width, 0)]
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
