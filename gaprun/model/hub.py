"""The model hub, which only the user's own words (`hf-hub:NAME`, a tag) ask: its cache first, the network where there is
one, and one plain answer at once where there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

# What a model of transformers consists of; code and weights of other programs stay where they are.
_TRANSFORMERS_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")


class HubAway(OSError):
    """The hub cannot be asked from here, and its cache does not hold what was wanted."""


@contextmanager
def hub_asked() -> Iterator[None]:
    """Within the block the hub is asked. Where its name cannot be looked up only the cache is, at once: the hub's own
    client would try for a minute. Raises HubAway for what then is not there."""
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _reachable()
    try:
        yield
    except Exception as error:
        if constants.HF_HUB_OFFLINE and not before and _not_in_cache(error):
            raise HubAway(f"{_host()} cannot be reached from here, and its cache does not hold this") from None
        raise
    finally:
        constants.HF_HUB_OFFLINE = before


def _host() -> str:
    return urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT


def _not_in_cache(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _reachable() -> bool:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # the proxy looks names up
    try:
        socket.getaddrinfo(_host(), None)
    except OSError:
        return False
    return True


def transformers_snapshot(name: str) -> Path:
    """Folder with the transformers files of the hub's model `name` (OWNER/NAME), downloaded or in the cache.

    Raises the hub's own errors, to be put into words by the caller.
    """
    with hub_asked():
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_TRANSFORMERS_FILES)))
