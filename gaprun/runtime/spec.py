"""The recipe's `compute`: how the arithmetic is done. No torch here."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gaprun.section import Positive, Section


class Compute(Section):
    """How the arithmetic is done."""

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Autocast type of the towers; the loss is always fp32. fp16 needs CUDA."
    )
    micro_batch: Positive | None = Field(
        None,
        description="Pairs that the towers see at a time in each process; the loss still spans the whole batch. Saves "
        "memory for about a third more time. Exact but for batch normalisation, whose statistics are then a "
        "micro-batch's; null embeds the batch at once.",
    )
    channels_last: bool = Field(False, description="Memory format of pictures and convolutions.")
    compile: bool = Field(
        False,
        description="torch.compile the towers. Captions are then padded to few lengths, so that little is compiled.",
    )
    threads: Positive | None = Field(
        None, description="CPU threads a job; null leaves torch's default. Part of what repeats bit for bit."
    )
    deterministic: bool = Field(True, description="Insist on deterministic kernels.")
    tf32: bool = Field(
        False,
        description="GPU: let fp32 products and convolutions round their factors to 10 bits (TF32), in training and in "
        "measuring alike. Off, so that fp32 means fp32 and a GPU's numbers are the CPU's up to rounding.",
    )
    cudnn_benchmark: bool = Field(
        False,
        description="GPU: cuDNN times its convolutions and takes the fastest, maybe another at each start; needs "
        "deterministic: false.",
    )
    attention: Literal["auto", "math", "flash", "efficient", "cudnn"] = Field(
        "auto",
        description="GPU: the one attention kernel that may be used (a step fails where it cannot be); auto lets torch "
        "choose.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.cudnn_benchmark and self.deterministic:
            raise ValueError("cudnn_benchmark chooses anew at each start: set deterministic to false with it")
        return self
