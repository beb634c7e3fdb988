"""Upstream's source + patches -> the proof that scripts/network is the same function of the same weights.

The source must be that of the commit, by git's blob ids, since it is run. It is copied afresh each time, patched by
the program patch, which may neither guess nor shift, and compared in float64 on drawn weights and, where ROOT holds a
checkpoint, on that one's. Exits 1 where a file is another, a patch does not fit, or a logit differs.
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

from network.spec import IMAGE_SHAPE

if TYPE_CHECKING:
    from torch import Tensor

SETTINGS = {
    "basic_layers": "upstream.basic_layers",
    "attention_module": "upstream.attention_module",
    "residual_attention_network": "upstream.residual_attention_network",
}
CLASS = ("model.residual_attention_network", "ResidualAttentionModel_92_32input_update")  # where the commit has it
TOLERANCE = 1e-9  # relative; float64 rounds at 1e-16, 300 operations deep, and another function is off by far more


def apply(patch: Path, folder: Path) -> None:
    """Patches the files of `folder`; exits 1 unless every hunk stands exactly where the patch says."""
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
        die("patch", "no such program", "install it (on Debian: apt install patch)")
    if done.returncode or "offset" in done.stdout:
        said = next((line for line in done.stdout.splitlines() if "FAILED" in line or "offset" in line), done.stdout)
        die(patch, f"does not fit upstream's source ({said})", f"see git diff {patch}; make it anew with diff -U0")


def drawn_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights for every tensor of `state`, from a fixed seed, of a size that keeps the activations alive (He et al.,
    arXiv 1502.01852), and statistics of batch norms that are neither 0 nor 1."""
    import torch

    draw = torch.Generator().manual_seed(0)
    made = {}
    for name, value in state.items():
        noise = torch.randn(value.shape, dtype=torch.float64, generator=draw)
        if value.dim() > 1:
            made[name] = noise * (2.0 / value[0].numel()) ** 0.5
        elif name.endswith(("running_var", "weight")):
            made[name] = torch.exp(0.2 * noise)
        else:
            made[name] = value if name.endswith("num_batches_tracked") else 0.1 * noise
    return made


def run_theirs(step: Callable[[], Any]) -> Any:
    """What a step of upstream's code returns; exits 1 where it raises."""
    try:
        return step()
    except Exception as error:  # noqa: BLE001  it is another's code
        reason = f"{type(error).__name__}: {error}"
        die(CLASS[1], f"does not run with these patches ({reason})", "see patches/ and git diff patches")


def upstream_network(sources: list[Path], blobs: list[str], patches: list[Path]) -> Any:
    """Upstream's network in float64, from a patched copy of its sources; exits 1 if a file is not the commit's."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model").mkdir()
        for source, blob in zip(sources, blobs):
            copy = Path(shutil.copyfile(source, Path(folder) / "model" / source.name))
            actual = artifact.git_blob(copy)
            if actual != blob:
                die(
                    source,
                    f"git blob {actual[:16]}…, not {blob[:16]}… of upstream's commit",
                    artifact.rebuild_hint(source),
                )
        for patch in patches:
            apply(patch, Path(folder))
        sys.dont_write_bytecode = True
        sys.path.insert(0, folder)
        return run_theirs(lambda: getattr(importlib.import_module(CLASS[0]), CLASS[1])().eval().double())


def difference(theirs: Any, ours: Any, images: Tensor) -> float:
    """The largest difference of the logits of two networks, relative to the largest logit of `theirs`."""
    import torch

    with torch.inference_mode():
        wanted = run_theirs(lambda: theirs(images))
        return float((ours(images) - wanted).abs().max() / wanted.abs().max())


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--sources", type=Path, nargs="+", required=True, help="upstream's files, as downloaded")
    for name in SETTINGS:
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, help="git's blob id of that file")
    parser.add_argument("--patches", type=Path, nargs="*", default=[])
    parser.add_argument("--checkpoint", type=Path, nargs="?", help="whose weights to compare with too")
    args = parser.parse_args()
    import torch

    from network.load import load_checkpoint
    from network.model import ResidualAttentionNetwork

    torch.set_num_threads(threads())
    blobs = [getattr(args, source.stem) for source in args.sources]
    theirs = upstream_network(args.sources, blobs, args.patches)
    ours = ResidualAttentionNetwork().eval().double()
    shapes = [[(name, value.shape) for name, value in model.state_dict().items()] for model in (theirs, ours)]
    if shapes[0] != shapes[1]:
        die(CLASS[1], "its tensors have other names or shapes than ours", "report it: scripts/network is wrong")
    images = torch.rand(4, *IMAGE_SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights: dict[str, Callable[[], Any]] = {"drawn weights": lambda: drawn_weights(ours.state_dict())}
    if args.checkpoint:
        weights[str(args.checkpoint)] = lambda: load_checkpoint(args.checkpoint).state_dict()
    for name, load in weights.items():
        state = load()
        theirs.load_state_dict(state)
        ours.load_state_dict(state)
        apart = difference(theirs, ours, images)
        if not apart <= TOLERANCE:
            problem = f"its logits and those of scripts/network are {apart:.1e} apart with the {name}"
            die(CLASS[1], problem, "report it: scripts/network is wrong")
        print(f"  {len(state)} tensors, {name}: logits within {apart:.1e} of upstream's (float64, relative)")


if __name__ == "__main__":
    main()
