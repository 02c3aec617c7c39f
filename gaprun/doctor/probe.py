"""What `gaprun doctor` asks of torch, in a process of its own: `python -m gaprun.doctor.probe` prints one JSON line."""

from __future__ import annotations

import io
import json
import time
from typing import Any

DECODING_SECONDS = 0.5


def main() -> None:
    """Print cards, precisions that work (error or null), pictures decoded a second, and torch's version."""
    import torch

    torch.set_num_threads(1)
    found: dict[str, Any] = {"torch": torch.__version__, "cards": [], "cuda_error": None}
    try:
        if torch.cuda.is_available():
            for index in range(torch.cuda.device_count()):
                card = torch.cuda.get_device_properties(index)
                found["cards"].append({"name": card.name, "gib": card.total_memory / 2**30})
        elif torch.version.cuda is None:
            found["cuda_error"] = "torch is a build without CUDA"
    except Exception as error:
        found["cuda_error"] = str(error).splitlines()[0]
    device = torch.device("cuda" if found["cards"] else "cpu")
    found["precision"] = {name: _try_precision(name, device) for name in ("fp32", "bf16", "fp16")}
    try:
        found |= {"pictures_per_second": _decoding_rate(), "decoder_error": None}
    except Exception as error:
        found |= {"pictures_per_second": None, "decoder_error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found))


def _try_precision(name: str, device: Any) -> str | None:
    """None where a step in this precision works, else why not."""
    import torch

    if name == "fp16" and device.type != "cuda":
        return "needs a GPU"
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "this GPU has no bf16"
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(name, torch.bfloat16)
    try:
        layer = torch.nn.Linear(8, 8).to(device)
        with torch.autocast(device.type, dtype=kind, enabled=name != "fp32"):
            loss = layer(torch.ones(4, 8, device=device)).float().sum()
        loss.backward()
        return (
            None
            if layer.weight.grad is not None and bool(layer.weight.grad.isfinite().all())
            else "not finite"
        )
    except Exception as error:
        return str(error).splitlines()[0]


def _decoding_rate() -> float:
    """Pictures a second on one core, from JPEG bytes to the pixels that training at 224 a side keeps."""
    import numpy as np
    from PIL import Image

    from gaprun.data.decode import stage

    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((480, 360), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    data, count = buffer.getvalue(), 0
    stage(data, 280, 266)
    start = time.perf_counter()
    while time.perf_counter() - start < DECODING_SECONDS:
        stage(data, 280, 266)
        count += 1
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
