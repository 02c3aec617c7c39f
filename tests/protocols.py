"""Protocols by their ids, for tests that fill a store."""

from gaprun.protocols import FINAL, FULL, Protocol, pool_of

_KNOWN = {
    protocol.id: protocol
    for protocol in (
        FULL,
        FINAL,
        pool_of(512),
        Protocol("full", transform="centre"),
        Protocol("centred", moved="centre"),
        Protocol("shift=0.5", moved="shift,fraction=0.5"),
    )
}


def named(text):
    """The protocol of that id, one without parts where no test needs any."""
    return _KNOWN.get(text) or Protocol(text)
