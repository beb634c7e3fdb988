"""The network's interface: the only file that contains its name, tensor names, image shape and classes.

To use another CIFAR-10 network, only this folder changes. A graph passed as `ONNX=` must have this input and output.
"""

from __future__ import annotations

NAME = "3d_attention_net"  # file name of its graphs and models without ending, as in Ascend's ModelZoo
INPUT = "image"  # float32 [N, *IMAGE_SHAPE], RGB in [0, 1], no mean subtracted
OUTPUT = "class"  # float32 [N, len(CLASSES)], logits
IMAGE_SHAPE = (3, 32, 32)  # channels, height, width
IMAGE_VALUES = IMAGE_SHAPE[0] * IMAGE_SHAPE[1] * IMAGE_SHAPE[2]
PIXEL_SHAPE = (IMAGE_SHAPE[1], IMAGE_SHAPE[2], IMAGE_SHAPE[0])  # height, width, channels: an image as uint8, 0 to 255
FLOAT32, UINT8 = "float32", "uint8"  # the types of an image for a model: a chip's option input=
CLASSES = ("plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")  # in CIFAR-10's order
RESIZES = 4  # bilinear align_corners Resize nodes: 8→16 and 16→32 at 128 channels, 8→16 at 256 channels, twice
