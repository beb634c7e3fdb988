"""The built-in sample: a small dataset and a checkpoint in the official formats, with the same bytes on every machine.

It shows that the pipeline runs where nothing can be downloaded; its figures say nothing about CIFAR-10.
Images: each of the ten classes has a hue for the whole image, with a gradient, a disc and noise. All numbers are
integers from a seeded generator.
Checkpoint: the 940 tensors in the container of torch 0.4, with integers from generators seeded by the tensors' names.
Only the last layer was fitted, to the first 64 features, by ridge regression on the training part
(tests/formats/test_sample.py); it is stored in HEAD. torch is not needed.
"""

from __future__ import annotations

import base64
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.python2 import Call, Global, Storage, python2_pickle
from network.spec import CLASSES, IMAGE_SHAPE, IMAGE_VALUES

LABEL_NAMES = [
    {"plane": "airplane", "car": "automobile"}.get(name, name) for name in CLASSES
]  # in the spelling of CIFAR-10
HUES = [
    (200, 60, 60),
    (60, 200, 60),
    (60, 60, 200),
    (200, 200, 60),
    (200, 60, 200),
    (60, 200, 200),
    (220, 140, 40),
    (140, 40, 220),
    (40, 110, 60),
    (120, 120, 120),
]
NOTICE = "the built-in sample of this project, not CIFAR-10"
FEATURES = 64  # of 1024; the last layer ignores the others
HEAD_UNIT = 1 / 32
HEAD = (  # int8 [10, 64] in base 85
    "{Q(000{#07^#uU?`~U<10r>+1{RssX1_1j300jd81O@;H000002?GHA2KWX5000000ssL2{{sa30s#I3@%i)s{RaE}{P+L`000XB"
    "`v3I`_wN1={r~m)|MLC+4&?yu0000H|NH;|`vw6301*EG2>|*50R99P{{RE|3ibT{0Q~X#1PK5G0s#B~0|fsA`TYL-"
    "1_1~60RRC2|Na2~{{R31|NH>_0rmX=0P_F<2mkp1008~{000IK{`?I70RICB{|o>C008~~1N;v7_!R>C1pxv21qcrT{RsdT0002-"
    "0|x;41^@y80Q>&{{QwF7009N{0RRO02><=|1^xo;1_A&82mk^A{{{aB1p5K>000960s#X6`TGC@0002~`u+d_{{#pC0Qdj^0ssL3"
    "0{{N~000922?_%P`vLy|{QLj|{{Z>`0sQ{}1N{I5`Tzg~{|5sA0098~000052><{B0tNv9009611_1v600I92008?01PT8H{{H^<"
    "2l4<11OW5^0txm64($5=^Z*J00s!#;{|5l?00009_y7O`@CNt*0R9310RZ^|0RH?B{s8w0?FRr10R#gW_5A?+{s0940s8^>0|x*J"
    "0RZ^`{r&y`2Lk~90RR931_b~F{sjI2022TJ{s063{s994008;=1_25A2J8v|1_%K41^@{F0Rjm11q}o3`~d<80tW&B`3?XL0002>"
    "1ONd20RH{}|MUL<_W%a~0RZ~x000C90{i&`{1prP2KfL2@&Ne&{Q~^~{{a5_1^)m8`Stq&`}+X={{R5`^7{Y^3H$y400jX6@&Ew<"
    "0RI36000H@"
)
HEAD_BIAS = [-114, -562, -1, 25, -206, -286, -21, 218, 1078, 380]


def draw(seed: int, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """`count` images, uint8 [count, *IMAGE_SHAPE], and their labels, int [count], with balanced classes."""
    random = np.random.RandomState(seed)  # NumPy keeps its streams stable; integers avoid rounding
    labels = random.permutation(np.arange(count) % len(CLASSES))
    channels, height, width = IMAGE_SHAPE
    y, x = np.mgrid[:height, :width] - np.array([height // 2, width // 2])[:, None, None]
    slope = random.randint(-3, 4, (2, count, 1, 1))
    row, column = random.randint(-10, 11, (2, count, 1, 1))
    disc = (y - row) ** 2 + (x - column) ** 2 <= random.randint(4, 11, (count, 1, 1)) ** 2
    image = np.array(HUES)[labels][:, :, None, None] + random.randint(-16, 17, (count, channels, 1, 1))
    image = image + (slope[0] * y + slope[1] * x)[:, None]
    image = image + disc[:, None] * random.randint(-48, 49, (count, channels, 1, 1))
    image = image + random.randint(-12, 13, (count, *IMAGE_SHAPE))
    return np.clip(image, 0, 255).astype(np.uint8), labels


def batch(title: str, images: NDArray[Any], labels: NDArray[Any]) -> bytes:
    """A batch file with the keys and the pickled array of the official ones."""
    dtype = Call(Global("numpy", "dtype"), (b"u1", 0, 1), (3, b"|", None, None, None, -1, -1, 0))
    state = (1, (len(images), IMAGE_VALUES), dtype, False, images.tobytes())
    array = Call(Global("numpy.core.multiarray", "_reconstruct"), (Global("numpy", "ndarray"), (0,), b"b"), state)
    names = [f"sample_{i:06}.png".encode() for i in range(len(images))]
    text = f"{title}; {NOTICE}".encode()
    labels_list = [int(k) for k in labels]
    return python2_pickle({b"batch_label": text, b"labels": labels_list, b"data": array, b"filenames": names})


def archive_files(seed: int, train: int, test: int) -> dict[str, bytes]:
    """{member name: bytes} of the sample's archive; the training part has a different seed from the test part."""
    meta = {
        b"num_cases_per_batch": test,
        b"label_names": [name.encode() for name in LABEL_NAMES],
        b"num_vis": IMAGE_VALUES,
    }
    files = {"batches.meta": python2_pickle(meta), "readme.html": f"<p>This is {NOTICE}.</p>\n".encode()}
    images, labels = draw(seed + 1, train)
    for i in range(5):
        part = slice(i * train // 5, (i + 1) * train // 5)
        files[f"data_batch_{i + 1}"] = batch(f"training batch {i + 1} of 5", images[part], labels[part])
    files["test_batch"] = batch("testing batch 1 of 1", *draw(seed, test))
    return files


def tensor(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The value of a tensor of the checkpoint: integers from a generator seeded by its name, times a scale.

    The scale of convolutions is from He et al., arXiv 1502.01852. The last one of each residual branch has a quarter of
    it, so that the sums of branches keep their magnitude.
    """
    kind = name.rsplit(".", 1)[1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if name == "fc.weight":
        value = np.zeros(shape)
        value[:, :FEATURES] = np.frombuffer(base64.b85decode(HEAD), np.int8).reshape(-1, FEATURES) * HEAD_UNIT
        return value.astype(np.float32)
    if name == "fc.bias":
        return np.array(HEAD_BIAS, np.float32) * np.float32(HEAD_UNIT)
    noise = np.random.RandomState(zlib.crc32(name.encode())).randint(-2048, 2049, shape) / 2048
    if kind == "running_var":
        value = np.ones(shape)
    elif len(shape) == 4:
        value = noise * math.sqrt(6 / math.prod(shape[1:])) * (0.25 if name.endswith("conv3.weight") else 1)
    else:
        value = noise / 4 + (kind == "weight")
    return value.astype(np.float32)


def write_checkpoint(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Writes a state_dict in torch's legacy container (torch/serialization.py, _legacy_save)."""
    entries, order = {}, []
    for key, (name, shape) in enumerate(shapes.items()):
        kind = "LongStorage" if name.endswith("num_batches_tracked") else "FloatStorage"
        strides = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
        order.append(str(key).encode())
        storage = Storage(kind, order[-1], math.prod(shape))
        entries[name.encode()] = Call(Global("torch._utils", "_rebuild_tensor"), (storage, 0, shape, strides))
    sizes = {b"short": 2, b"int": 4, b"long": 4}
    system = {b"protocol_version": 1001, b"little_endian": True, b"type_sizes": sizes}
    with open(path, "wb") as out:
        for value in (0x1950A86A20F9469CFC6C, 1001, system, entries, order):
            out.write(python2_pickle(value))
        for name, shape in shapes.items():
            out.write(math.prod(shape).to_bytes(8, "little") + tensor(name, shape).tobytes())
