"""Fashion-MNIST with a few made-up images, in its own files."""

import gzip
import struct

import numpy as np

from evitif.datasets import fashion_mnist

COUNT = 10


def write(folder, count=COUNT, magic=2051, cut=0, brightest=None):
    """Both splits in the four files; `brightest` by split: garments that are brighter below, else a ramp that wraps around."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels, _) in fashion_mnist.FILES.items():
        pixels = np.arange(count * 784, dtype=np.uint32).astype(np.uint8)
        if brightest is not None:
            pixels = np.zeros((count, 28, 28), np.uint8)
            pixels[:, 4:24, 6:22] = np.linspace(60, brightest[split], 20)[:, None]
        body = struct.pack('>IIII', magic, count, 28, 28) + pixels.tobytes()
        (folder / images).write_bytes(gzip.compress(body[:len(body) - cut]))
        (folder / labels).write_bytes(gzip.compress(struct.pack('>II', 2049, count) + bytes(index % 10 for index in range(count))))
    return folder


def expect(monkeypatch, count=COUNT):
    """Let so many images be all of a split."""
    monkeypatch.setattr(fashion_mnist, 'FILES', {split: (images, labels, count)
                                                 for split, (images, labels, _) in fashion_mnist.FILES.items()})
