"""Checks that scripts/network computes the same logits as the patched upstream source with the same weights.

The upstream files are executed, so their git blob ids must be those of the commit. They are copied and then patched by
the program patch, without fuzz or offsets. The comparison is in float64, with random weights and, if ROOT contains a
checkpoint, with its weights. Exits 1 if a file differs, a patch does not apply, or the logits differ.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die
from _support.machine import threads

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from formats.official import SOURCES
from network.spec import IMAGE_SHAPE

if TYPE_CHECKING:
    from torch import Tensor

SETTINGS: dict[str, str] = {}
CLASS = (
    "model.residual_attention_network",
    "ResidualAttentionModel_92_32input_update",
)  # module and class in the commit
TOLERANCE = 1e-9  # relative; float64 rounding (1e-16) over 300 operations is below it, a different function far above


def apply_patch(patch: Path, folder: Path) -> None:
    """Patches the files in `folder`; exits 1 unless every hunk applies exactly at its line."""
    command = ["patch", "--batch", "--forward", "--fuzz=0", "--strip=1", "--directory", str(folder)]
    try:
        with open(patch, "rb") as stream:
            done = subprocess.run(
                command,
                stdin=stream,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={**os.environ, "LC_ALL": "C"},
            )
    except FileNotFoundError:
        die("patch", "program not found", "install it (on Debian: apt install patch)")
    if done.returncode or "offset" in done.stdout:
        output = done.stdout.splitlines()
        reason = next((line for line in output if "FAILED" in line or "offset" in line), done.stdout)
        die(
            patch,
            f"does not apply to the upstream source ({reason})",
            f"see git diff {patch}, or create it with diff -U0",
        )


def random_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random weights for every tensor of `state`, from a fixed seed.

    Their scale keeps the activations from vanishing (He et al., arXiv 1502.01852). Batch norm statistics differ from 0
    and 1.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, value in state.items():
        noise = torch.randn(value.shape, dtype=torch.float64, generator=generator)
        if value.dim() > 1:
            weights[name] = noise * (2.0 / value[0].numel()) ** 0.5
        elif name.endswith(("running_var", "weight")):
            weights[name] = torch.exp(0.2 * noise)
        else:
            weights[name] = value if name.endswith("num_batches_tracked") else 0.1 * noise
    return weights


def run_upstream(step: Callable[[], Any]) -> Any:
    """The result of a step of upstream code; exits 1 if it raises."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - upstream code can raise anything
        reason = f"{type(error).__name__}: {error}"
        die(CLASS[1], f"does not run with these patches ({reason})", "see patches/ and git diff patches")


def upstream_network(sources: list[Path], patches: list[Path]) -> Any:
    """The upstream network in float64, from a patched copy of its files; exits 1 if a blob id differs."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model").mkdir()
        for source in sources:
            blob = SOURCES[source.stem].digest
            copy = Path(shutil.copyfile(source, Path(folder) / "model" / source.name))
            actual = artifact.git_blob(copy)
            if actual != blob:
                die(
                    source,
                    f"git blob {actual[:16]}…, not {blob[:16]}… of upstream's commit",
                    artifact.rebuild_hint(source),
                )
        for patch in patches:
            apply_patch(patch, Path(folder))
        sys.dont_write_bytecode = True
        sys.path.insert(0, folder)
        return run_upstream(lambda: getattr(importlib.import_module(CLASS[0]), CLASS[1])().eval().double())


def difference(upstream: Any, network: Any, images: Tensor) -> float:
    """The largest difference between the logits of two networks, relative to the largest logit of `upstream`."""
    import torch

    with torch.inference_mode():
        expected = run_upstream(lambda: upstream(images))
        return float((network(images) - expected).abs().max() / expected.abs().max())


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--sources", type=Path, nargs="+", required=True, help="the downloaded upstream files")
    parser.add_argument("--patches", type=Path, nargs="*", default=[])
    parser.add_argument("--checkpoint", type=Path, nargs="?", help="compare with its weights too")
    args = parser.parse_args()
    import torch

    from network.load import load_checkpoint
    from network.model import ResidualAttentionNetwork

    torch.set_num_threads(threads())
    upstream = upstream_network(args.sources, args.patches)
    network = ResidualAttentionNetwork().eval().double()
    shapes = [[(name, value.shape) for name, value in model.state_dict().items()] for model in (upstream, network)]
    if shapes[0] != shapes[1]:
        problem = "its tensors differ from those of scripts/network in name or shape"
        die(CLASS[1], problem, "report it: scripts/network is wrong")
    images = torch.rand(4, *IMAGE_SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights: dict[str, Callable[[], Any]] = {"random weights": lambda: random_weights(network.state_dict())}
    if args.checkpoint:
        weights[str(args.checkpoint)] = lambda: load_checkpoint(args.checkpoint).state_dict()
    for name, load in weights.items():
        state = load()
        upstream.load_state_dict(state)
        network.load_state_dict(state)
        error = difference(upstream, network, images)
        if not error <= TOLERANCE:
            problem = f"its logits and those of scripts/network differ by {error:.1e} (relative) with {name}"
            die(CLASS[1], problem, "report it: scripts/network is wrong")
        print(f"  {len(state)} tensors, {name}: logits equal those of upstream (relative error {error:.1e}, float64)")


if __name__ == "__main__":
    main()
