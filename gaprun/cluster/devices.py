"""The devices of this machine among which `--cluster local` shares its jobs."""

from __future__ import annotations

from gaprun.errors import UserError


def chosen_devices(text: str | None) -> list[str]:
    """`cuda:0,cuda:1` or `cpu,cpu` as a list; None is every GPU, or the CPU once. Raises UserError for absent ones."""
    import torch

    from gaprun.runtime.environment import pick_device

    count = torch.cuda.device_count()
    if text is None:
        return [f"cuda:{index}" for index in range(count)] or ["cpu"]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        kind, _, number = name.partition(":")
        if kind == "cuda":  # without waking the GPU in this process
            if not number.isdigit() or int(number) >= count:
                raise UserError(
                    f"--devices {name}: this machine has {count} GPUs; name them cuda:0, cuda:1, ..."
                )
        else:
            pick_device(name)
    if not names:
        raise UserError("--devices: name at least one, e.g. cuda:0,cuda:1 or cpu")
    return names
