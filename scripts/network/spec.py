"""The network's interface: the only place with its name, tensor names, image shape and classes.

Another CIFAR-10 network changes this folder alone. A graph of the user's own (`ONNX=`) has this input and output.
"""

from __future__ import annotations

NAME = "3d_attention_net"  # the stem of its graphs' and models' file names, as in Ascend's ModelZoo
INPUT = "image"  # float32 [N, *IMAGE_SHAPE], RGB in [0, 1], nothing subtracted
OUTPUT = "class"  # float32 [N, len(CLASSES)], logits
IMAGE_SHAPE = (3, 32, 32)  # channels, height, width
IMAGE_VALUES = IMAGE_SHAPE[0] * IMAGE_SHAPE[1] * IMAGE_SHAPE[2]
CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # in CIFAR-10's order
RESIZES = 4  # bilinear align_corners Resize nodes: 8→16 and 16→32 at 128 channels, 8→16 at 256 channels, twice
