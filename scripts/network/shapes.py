"""Names and shapes of the checkpoint's tensors, without torch. A test compares them with model.py."""

from __future__ import annotations

from network.spec import CLASSES, IMAGE_SHAPE


def shapes() -> dict[str, tuple[int, ...]]:
    """{name: shape} of the checkpoint's 940 tensors, in its order."""
    tensors: dict[str, tuple[int, ...]] = {}

    def conv(name: str, inputs: int, outputs: int, size: int = 1) -> None:
        tensors[f"{name}.weight"] = (outputs, inputs, size, size)

    def norm(name: str, channels: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{kind}"] = (channels,)
        tensors[f"{name}.num_batches_tracked"] = ()

    def block(name: str, inputs: int, outputs: int) -> None:
        middle = outputs // 4
        norm(f"{name}.bn1", inputs)
        conv(f"{name}.conv1", inputs, middle)
        norm(f"{name}.bn2", middle)
        conv(f"{name}.conv2", middle, middle, 3)
        norm(f"{name}.bn3", middle)
        conv(f"{name}.conv3", middle, outputs)
        conv(f"{name}.conv4", inputs, outputs)

    def attention(name: str, channels: int, stage: int) -> None:
        names = ["first_residual_blocks", "trunk_branches.0", "trunk_branches.1"]
        names += ["down_residual_blocks1", "skip1_connection_residual_block"] if stage == 1 else []
        names += ["middle_2r_blocks.0", "middle_2r_blocks.1"] + (["up_residual_blocks1"] if stage == 1 else [])
        for part in names:
            block(f"{name}.{part}", channels, channels)
        for i in (0, 3):
            norm(f"{name}.conv1_1_blocks.{i}", channels)
            conv(f"{name}.conv1_1_blocks.{i + 2}", channels, channels)
        block(f"{name}.last_blocks", channels, channels)

    conv("conv1.0", IMAGE_SHAPE[0], 32, 3)
    norm("conv1.1", 32)
    block("residual_block1", 32, 128)
    attention("attention_module1", 128, 1)
    block("residual_block2", 128, 256)
    attention("attention_module2", 256, 2)
    attention("attention_module2_2", 256, 2)
    block("residual_block3", 256, 512)
    for name in ("attention_module3", "attention_module3_2", "attention_module3_3"):
        attention(name, 512, 3)
    block("residual_block4", 512, 1024)
    block("residual_block5", 1024, 1024)
    block("residual_block6", 1024, 1024)
    norm("mpool2.0", 1024)
    tensors["fc.weight"], tensors["fc.bias"] = (len(CLASSES), 1024), (len(CLASSES),)
    return tensors
