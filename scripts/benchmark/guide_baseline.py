"""The baseline of make bench: the steps of the ModelZoo guide, as a careful user runs them. Not part of the chain.

It was written from the guide's text, independently of the guide's code. Each step is a separate process. preprocess:
torch's DataLoader over PIL images, one bin per image. infer: ONNX Runtime with its defaults on the plain export,
because there is no NPU here; like ais_bench --outfmt TXT it reads bins one by one and writes one txt per image with
numpy.savetxt. postprocess: numpy.loadtxt file by file, with the labels from the pickle.
"""

from __future__ import annotations

from _support import cli

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from formats.batch_pickle import images_and_labels, placeholder_of
from network.spec import IMAGE_SHAPE, INPUT

LOADER_BATCH = 32  # images in a batch of the DataLoader


class Unpickler(pickle.Unpickler):
    """pickle.load as in the guide, at the same speed, with placeholders for the names of numpy."""

    def find_class(self, module: str, name: str) -> Any:
        return placeholder_of(module, name)


def test_batch(data: Path) -> tuple[Any, list[int]]:
    """uint8 [n, *IMAGE_SHAPE] and n labels of an extracted archive, which the chain has read and checked before."""
    with open(data / "cifar-10-batches-py/test_batch", "rb") as stream:
        return images_and_labels(Unpickler(stream, encoding="bytes").load())


def preprocess(data: Path, out: Path) -> None:
    """Writes image_<i>.bin, float32 in [0, 1], for every test image of the extracted archive `data`."""
    import torch
    from PIL import Image

    pixels, labels = test_batch(data)
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in pixels]

    class Images(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, i: int) -> Any:
            picture = np.array(pictures[i], np.uint8)
            return torch.from_numpy(picture).permute(2, 0, 1).contiguous().to(torch.float32).div(255), labels[i]

    out.mkdir(parents=True, exist_ok=True)
    number = 0
    for images, _ in torch.utils.data.DataLoader(Images(), batch_size=LOADER_BATCH):
        for image in images:
            np.array(image).astype(np.float32).tofile(out / f"image_{number}.bin")
            number += 1


def infer(bins: Path, onnx: Path, batch_size: int, out: Path) -> None:
    """Writes image_<i>_0.txt with the logits of every bin."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    paths = sorted(bins.glob("*.bin"), key=lambda path: int(path.stem.split("_")[1]))
    out.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(paths), batch_size):
        part = paths[start : start + batch_size]
        images = [np.fromfile(path, np.float32).reshape(IMAGE_SHAPE) for path in part]
        images += images[:1] * (batch_size - len(part))
        (logits,) = session.run(None, {INPUT: np.stack(images)})
        for path, row in zip(part, logits):
            np.savetxt(out / f"{path.stem}_0.txt", row[None])


def postprocess(data: Path, outputs: Path, out: Path) -> None:
    """Writes one line with the accuracy."""
    _, labels = test_batch(data)
    correct = 0
    for i, label in enumerate(labels):
        correct += int(np.argmax(np.loadtxt(outputs / f"image_{i}_0.txt"))) == label
    out.write_text(f"Top-1 accuracy of inference: {100 * correct / len(labels):.2f}%\n")


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("step", choices=["preprocess", "infer", "postprocess"])
    for name in ("data", "bins", "onnx", "outputs"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.step == "preprocess":
        preprocess(args.data, args.out)
    elif args.step == "infer":
        infer(args.bins, args.onnx, args.batch_size, args.out)
    else:
        postprocess(args.data, args.outputs, args.out)


if __name__ == "__main__":
    main()
