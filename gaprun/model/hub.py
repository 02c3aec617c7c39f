"""The model hub and the network: only the user's own words (`hf-hub:NAME`, a tag) ask them, never a file.

Where there is no network the hub's cache is read, and what it lacks is said at once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

# What a model of transformers consists of; code and weights of other programs stay where they are.
_TRANSFORMERS_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")


class NetworkRefused(OSError):
    """A file asked for something that lies on the network."""


@contextmanager
def offline() -> Iterator[None]:
    """Within the block no connection is made: what a file names must lie here (or in a library's cache)."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise NetworkRefused("no file makes gaprun ask the network")

    def local_only(self: socket.socket, address: Any) -> Any:
        return refuse() if self.family in (socket.AF_INET, socket.AF_INET6) else connect(self, address)

    socket.socket.connect, socket.getaddrinfo = local_only, refuse  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        socket.socket.connect, socket.getaddrinfo = connect, lookup  # type: ignore[method-assign]


class HubAway(OSError):
    """The hub cannot be asked from here, and its cache does not hold what was wanted."""


@contextmanager
def hub_asked() -> Iterator[None]:
    """Within the block the hub is asked. Where its name cannot be looked up only the cache is, at once: the hub's own
    client would try for a minute. Raises HubAway (NetworkRefused within `offline`) for what then is not there."""
    before = constants.HF_HUB_OFFLINE
    refusal = None if before else _refusal()
    constants.HF_HUB_OFFLINE = before or refusal is not None
    try:
        yield
    except Exception as error:
        if refusal is not None and _not_in_cache(error):
            raise refusal from None
        raise
    finally:
        constants.HF_HUB_OFFLINE = before


def _refusal() -> OSError | None:
    """What to say of a hub that cannot be asked; None where it can."""
    host = urlsplit(constants.ENDPOINT).hostname
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return None  # the proxy looks names up
    try:
        socket.getaddrinfo(host, None)
    except NetworkRefused as refused:
        return refused
    except OSError:
        return HubAway(f"{host} cannot be reached from here, and its cache does not hold this")
    return None


def _not_in_cache(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
            return True
        error = error.__cause__ or error.__context__
    return False


def transformers_snapshot(name: str) -> Path:
    """Folder with the transformers files of the hub's model `name` (OWNER/NAME), downloaded or in the cache.

    Raises the hub's own errors, to be put into words by the caller.
    """
    with hub_asked():
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_TRANSFORMERS_FILES)))
