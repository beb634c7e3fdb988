"""THE BASELINE of make bench, no part of the chain: what a careful user of the guide would run, each step a process.

Written afresh after the guide's text. preprocess: torch's DataLoader over PIL images, a bin an image. infer: ONNX
Runtime with its defaults on the plain export, as no NPU is here, otherwise as ais_bench --outfmt TXT works: bins read
one by one, a txt an image by numpy.savetxt. postprocess: file by file with numpy.loadtxt, and the labels from the
pickle.
"""

from __future__ import annotations

import _build

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from preprocess import CifarUnpickler


class Pickled(pickle.Unpickler):
    """The guide's pickle.load, as fast, but of numpy's three names alone: a stranger's file runs nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in CifarUnpickler.names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def test_batch(data: Path) -> tuple[Any, list[int]]:
    """uint8 [n, 3, 32, 32] and n labels of an extracted archive."""
    with open(data / "cifar-10-batches-py/test_batch", "rb") as stream:
        batch = Pickled(stream, encoding="bytes").load()
    return batch[b"data"].reshape(-1, 3, 32, 32), batch[b"labels"]


def preprocess(args: Any) -> None:
    import torch
    from PIL import Image

    pixels, labels = test_batch(args.data)
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in pixels]

    class Images(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, i: int) -> Any:
            picture = np.array(pictures[i], np.uint8)
            return torch.from_numpy(picture).permute(2, 0, 1).contiguous().to(torch.float32).div(255), labels[i]

    args.out.mkdir(parents=True, exist_ok=True)
    number = 0
    for images, _ in torch.utils.data.DataLoader(Images(), batch_size=32):
        for image in images:
            np.array(image).astype(np.float32).tofile(args.out / f"image_{number}.bin")
            number += 1


def infer(args: Any) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(args.onnx), providers=["CPUExecutionProvider"])
    names = sorted((path.name for path in args.bins.glob("*.bin")), key=lambda name: int(name[6:-4]))
    args.out.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(names), args.batch_size):
        some = names[start : start + args.batch_size]
        images = [np.fromfile(args.bins / name, np.float32).reshape(3, 32, 32) for name in some]
        images += images[:1] * (args.batch_size - len(some))
        (answers,) = session.run(None, {"image": np.stack(images)})
        for name, row in zip(some, answers):
            np.savetxt(args.out / name.replace(".bin", "_0.txt"), row[None])


def postprocess(args: Any) -> None:
    _, labels = test_batch(args.data)
    correct = 0
    for i, label in enumerate(labels):
        correct += int(np.argmax(np.loadtxt(args.outputs / f"image_{i}_0.txt"))) == label
    args.out.write_text(f"Top-1 accuracy of inference: {100 * correct / len(labels):.2f}%\n")


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("step", choices=["preprocess", "infer", "postprocess"])
    for name in ("data", "bins", "onnx", "outputs", "out"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    {"preprocess": preprocess, "infer": infer, "postprocess": postprocess}[args.step](args)


if __name__ == "__main__":
    main()
