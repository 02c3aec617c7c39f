"""How the processes that a launcher (torchrun) started find each other, each with a card of its own."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from gaprun.errors import Failure, UserError
from gaprun.runtime.distributed import ALONE, PATIENCE, World, step_patience


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The world that torchrun's environment describes, ready for use; `ALONE` where there is none.

    `device`: as for `--device`; every process takes the card of its local rank. Raises UserError for one card named
    for many processes or more processes than cards.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    if cuda:
        _choose_card(device, local)
    with _joining(size):
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=step_patience())
        slow = dist.new_group(backend="gloo", timeout=PATIENCE)
    world = World(rank, size, rank - local, slow)
    if cuda:
        _let_hosts_speak_first()
        _check_cards(world)
    yield world
    # Not after an error: taking down a group that lost a member can wait for it.
    dist.destroy_process_group()


@contextmanager
def _joining(size: int) -> Iterator[None]:
    """Nobody is lost yet: what goes wrong here is how the processes were started, or the network between them."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError) as error:
        reason = (str(error).splitlines() or ["?"])[0][:200]
        raise Failure(
            f"the {size} processes did not find each other ({reason}): were all started, do MASTER_ADDR and "
            "MASTER_PORT name the first one's machine, and may it be reached (GLOO_SOCKET_IFNAME and "
            "NCCL_SOCKET_IFNAME choose the network)?"
        ) from None


def _let_hosts_speak_first() -> None:
    """nccl's watchdog ends the process without a word of ours: it waits twice as long as the hosts do."""
    backend = dist.group.WORLD._get_backend(torch.device("cuda"))  # type: ignore[union-attr]
    if hasattr(backend, "_set_default_timeout"):
        backend._set_default_timeout(2 * step_patience())


def _choose_card(device: str, local: int) -> None:
    if ":" in device:
        raise UserError(f"--device {device}: several processes take one card each; use cuda or auto")
    count = torch.cuda.device_count()
    # A scheduler may show each process its own card alone; whether it did is checked once all can speak.
    chosen = 0 if count == 1 else local
    if chosen >= count:
        raise UserError(
            f"process {local} of this machine has no card: there are {count}; start as many processes as cards"
        )
    torch.cuda.set_device(chosen)


def _check_cards(world: World) -> None:
    """Raise UserError, on all processes, where two of them have one card."""
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    own = (platform.node(), str(getattr(card, "uuid", world.rank)))
    owners: dict[tuple[str, str], int] = {}
    for rank, place in enumerate(world.collect(own)):
        if place in owners:
            raise UserError(
                f"processes {owners[place]} and {rank} have the same card of {place[0]}; start as many processes "
                "as cards"
            )
        owners[place] = rank
