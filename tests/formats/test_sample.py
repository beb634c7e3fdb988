"""The built-in sample."""

from __future__ import annotations

from _support.artifact import digest

import base64
import hashlib
from pathlib import Path

import fit_sample_head
import numpy as np
import onnx
import torch

from conftest import Inputs, refused, script
from formats import sample
from formats.cifar10 import read_batch, read_member
from graphs.session import open_session
from network.load import load_checkpoint
from network.spec import INPUT, OUTPUT

SEED = 20260601


CHECKPOINT = "df60bf12b0dd7c17314b8a548e4e73a199ff5ef307de91945c83d43d9ac575dd"
TEST_BATCH = "a6ab0fc9f6e83f15985f42c13570b51dafff14d53cc9937ff43eaeb321112da1"


def test_its_checkpoint_and_images_have_the_same_bytes_on_every_machine(inputs: Inputs, tmp_path: Path) -> None:
    assert digest(inputs.checkpoint) == CHECKPOINT
    flags = ("--seed", SEED, "--train-images", 1000, "--test-images", 1000)
    assert script("make_sample", "--archive", tmp_path / "a.tar.gz", *flags).returncode == 0
    assert hashlib.sha256(read_member(tmp_path / "a.tar.gz", "test_batch")).hexdigest() == TEST_BATCH


def test_its_archive_is_in_the_format_of_cifar10(inputs: Inputs) -> None:
    images, labels, raw = read_batch(inputs.archive, "test_batch")
    assert (images.shape, images.dtype, len(labels)) == ((20, 3, 32, 32), np.uint8, 20)
    assert sorted(set(labels)) == list(range(10))
    start = b"\x80\x02}(U\x0bbatch_label"  # protocol 2, str keys of Python 2
    assert raw.startswith(start)
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in raw
    for i in range(1, 6):
        assert len(read_batch(inputs.archive, f"data_batch_{i}")[1]) == 2
    assert b"label_names" in read_member(inputs.archive, "batches.meta")
    assert b"not CIFAR-10" in raw
    assert b"not CIFAR-10" in read_member(inputs.archive, "readme.html")


def test_the_training_part_shares_no_image_with_the_test_part() -> None:
    train, test = (sample.draw(seed, 1000)[0] for seed in (SEED + 1, SEED))
    both = {hashlib.sha256(image.tobytes()).digest() for image in np.concatenate([train, test])}
    assert len(both) == 2000


def test_its_head_is_the_ridge_regression_on_the_training_part(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    (name, *_) = next(node.input for node in model.graph.node if OUTPUT in node.output)
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = open_session(model)

    def features(images: np.ndarray) -> np.ndarray:  # NumPy, which is twice as fast as torch here
        batches = np.split(images / np.float32(255), len(images) // 50)
        return np.concatenate([session.run([name], {INPUT: batch})[0] for batch in batches]).astype(np.float64)

    weights, bias = fit_sample_head.fit(features)
    head = np.frombuffer(base64.b85decode(sample.HEAD), np.int8).reshape(10, 64).astype(int)
    assert np.abs(head - weights).max() <= 1  # rounding may differ between machines
    assert np.abs(np.array(sample.HEAD_BIAS) - bias).max() <= 1


def test_its_predictions_have_no_near_ties_and_every_mask_changes_the_logits(inputs: Inputs) -> None:
    images, labels = sample.draw(SEED, 1000)
    images, labels = torch.from_numpy(images[:100] / np.float32(255)), labels[:100]
    network = load_checkpoint(inputs.checkpoint).to(memory_format=torch.channels_last)
    modules = dict(network.named_children())
    attention = [name for name in modules if name.startswith("attention")]
    assert len(attention) == 6
    before = {}  # each module's input
    for name in attention:
        modules[name].register_forward_pre_hook(lambda _module, x, name=name: before.update({name: x[0][:20]}))
    with torch.inference_mode():
        logits = network(images)
        whole = logits.argmax(1).numpy()
        assert (whole == labels).mean() >= 0.97
        top = logits.topk(2).values
        assert (top[:, 0] - top[:, 1]).min() > 0.05  # float32 engines differ by about 1e-5
        inputs_of = dict(before)
        for name in attention:
            *rest, head = list(modules.values())[list(modules).index(name) :]
            for replaced in (torch.zeros_like, lambda m: torch.full_like(m, 0.5)):
                mask = modules[name].conv1_1_blocks
                handle = mask.register_forward_hook(lambda _module, _inputs, m, f=replaced: f(m))
                labels = torch.nn.Sequential(*rest, torch.nn.Flatten(), head)(inputs_of[name]).argmax(1).numpy()
                handle.remove()
                assert (labels != whole[:20]).sum() >= 2, name


def test_usage_errors_of_the_scripts_are_one_line(tmp_path: Path) -> None:
    refused(script("make_sample"), "one of the arguments", status=2)
    refused(script("infer", "--model", "x"), "required", status=2)
