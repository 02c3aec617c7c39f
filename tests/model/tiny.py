"""A tiny architecture and a few drawn pictures, for tests that build and measure many models quickly."""

import hashlib
import io

import numpy as np
from PIL import Image

from gaprun.evaluation.tasks.gap import Gap
from gaprun.protocols import FULL

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


class Pictures:
    """`count` drawn pictures of different shapes with a caption each, as an embedder reads them."""

    def __init__(self, count, damaged=False):
        self.dataset, self.split, self.samples = "drawn", "damaged" if damaged else "test", count
        self.fingerprint = hashlib.sha256(f"{count} {damaged}".encode()).hexdigest()
        self.keys = [f"p{i}" for i in range(count)]
        self.captions = [[f"picture {i} of a red dog number {i * i}"] for i in range(count)]
        self.classes, self.labels, self.damaged = None, None, damaged

    def read_image(self, i):
        if self.damaged:
            return b"no picture"
        pixels = np.random.default_rng(i).integers(0, 256, (40 + i, 30 + 3 * i, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    def task(self):
        """A `gap` task that measures these pictures by the protocol `full` alone."""
        pictures = self

        class OneProtocol(Gap):
            def open(self, ref):
                return pictures

            def protocols(self, split):
                return [FULL]

        return OneProtocol(data=[self.split])


def state_of(model):
    """The bytes of all tensors of `model`, by name."""
    return {name: value.detach().numpy().tobytes() for name, value in model.state_dict().items()}
