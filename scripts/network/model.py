"""Residual Attention Network for CIFAR-10, variant "92, 32 input, update".

Wang et al., "Residual Attention Network for Image Classification", CVPR 2017, arXiv 1704.06904.
Input and output: see spec.py.
The module names are those of the public checkpoint, so that its 940 tensors load without renaming.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from network.spec import CLASSES, IMAGE_SHAPE


def conv(inputs: int, outputs: int, size: int = 1, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps height and width at stride 1."""
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class ResidualBlock(nn.Module):
    """Pre-activation bottleneck (He et al., arXiv 1603.05027): [N, inputs, H, W] -> [N, outputs, H/s, W/s]."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        middle = outputs // 4
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv(inputs, middle)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = conv(middle, middle, 3, stride)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = conv(middle, outputs)
        self.conv4 = conv(
            inputs, outputs, 1, stride
        )  # every checkpoint has it, also where the shortcut is the identity
        self.projects = inputs != outputs or stride != 1

    def forward(self, x: Tensor) -> Tensor:
        a = functional.relu(self.bn1(x))
        y = self.conv1(a)
        y = self.conv2(functional.relu(self.bn2(y)))
        y = self.conv3(functional.relu(self.bn3(y)))
        out: Tensor = y + (self.conv4(a) if self.projects else x)
        return out


def two_blocks(channels: int) -> nn.Sequential:
    """Two residual blocks that keep the shape [N, channels, H, W]."""
    return nn.Sequential(ResidualBlock(channels, channels), ResidualBlock(channels, channels))


def halve(x: Tensor) -> Tensor:
    """Max pooling: [N, C, H, W] -> [N, C, H/2, W/2]."""
    return functional.max_pool2d(x, 3, 2, 1)


def double(x: Tensor) -> Tensor:
    """Bilinear interpolation: [N, C, H, W] -> [N, C, 2H, 2W]."""
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class AttentionModule(nn.Module):
    """Attention residual learning (section 3.2 of the paper): (1 + mask) * trunk.

    Keeps the shape [N, channels, H, W]. The mask branch of `stage` 1 resizes twice (128 channels), of 2 once
    (256), of 3 never (512).
    """

    def __init__(self, channels: int, stage: int) -> None:
        super().__init__()
        self.stage = stage
        self.first_residual_blocks = ResidualBlock(channels, channels)
        self.trunk_branches = two_blocks(channels)
        if stage == 1:
            self.down_residual_blocks1 = ResidualBlock(channels, channels)
            self.skip1_connection_residual_block = ResidualBlock(channels, channels)
        self.middle_2r_blocks = two_blocks(channels)
        if stage == 1:
            self.up_residual_blocks1 = ResidualBlock(channels, channels)
        self.conv1_1_blocks = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv(channels, channels),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            conv(channels, channels),
            nn.Sigmoid(),
        )
        self.last_blocks = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_residual_blocks(x)
        trunk = self.trunk_branches(x)
        if self.stage == 1:
            down = self.down_residual_blocks1(halve(x))
            middle = double(self.middle_2r_blocks(halve(down)))
            up = self.up_residual_blocks1(middle + down + self.skip1_connection_residual_block(down))
            before_mask = double(up) + trunk
        elif self.stage == 2:
            before_mask = double(self.middle_2r_blocks(halve(x))) + trunk
        else:
            before_mask = self.middle_2r_blocks(x)
        out: Tensor = self.last_blocks((1 + self.conv1_1_blocks(before_mask)) * trunk)
        return out


class ResidualAttentionNetwork(nn.Module):
    """The whole network: float32 [N, *IMAGE_SHAPE] -> logits [N, classes]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv(IMAGE_SHAPE[0], 32, 3), nn.BatchNorm2d(32), nn.ReLU())
        self.residual_block1 = ResidualBlock(32, 128)
        self.attention_module1 = AttentionModule(128, stage=1)
        self.residual_block2 = ResidualBlock(128, 256, 2)
        self.attention_module2 = AttentionModule(256, stage=2)
        self.attention_module2_2 = AttentionModule(256, stage=2)
        self.residual_block3 = ResidualBlock(256, 512, 2)
        self.attention_module3 = AttentionModule(512, stage=3)
        self.attention_module3_2 = AttentionModule(512, stage=3)
        self.attention_module3_3 = AttentionModule(512, stage=3)
        self.residual_block4 = ResidualBlock(512, 1024)
        self.residual_block5 = ResidualBlock(1024, 1024)
        self.residual_block6 = ResidualBlock(1024, 1024)
        self.mpool2 = nn.Sequential(nn.BatchNorm2d(1024), nn.ReLU(), nn.AvgPool2d(8))
        self.fc = nn.Linear(1024, len(CLASSES))

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for name, module in self.named_children():
            x = module(torch.flatten(x, 1) if name == "fc" else x)
        return x
