"""Upstream's source + patches -> the proof that scripts/network.py is the same function of the same weights.

The source must be that of the commit, by git's blob ids, since it is run. It is copied afresh each time, patched by
the program patch, which may neither guess nor shift, and compared in float64 on drawn weights and, where ROOT holds a
checkpoint, on that one's. Exits 1 where a file is another, a patch does not fit, or a logit differs.
"""

from __future__ import annotations

import _build
from _build import die

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from engines.threads import threads

if TYPE_CHECKING:
    from torch import Tensor

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


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--sources", type=Path, nargs="+", required=True, help="upstream's files, as downloaded")
    parser.add_argument("--git-blobs", nargs="+", required=True, help="what git hash-object says of each")
    parser.add_argument("--patches", type=Path, nargs="*", default=[])
    parser.add_argument("--checkpoint", type=Path, nargs="?", help="whose weights to compare with too")
    args = parser.parse_args()
    import network
    import torch

    torch.set_num_threads(threads())
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "model").mkdir()
        for source, blob in zip(args.sources, args.git_blobs):
            copy = Path(shutil.copyfile(source, Path(folder) / "model" / source.name))
            found = _build.git_blob(copy)
            if found != blob:
                die(source, f"git blob {found[:16]}…, not {blob[:16]}… of upstream's commit", _build.again(source))
        for patch in args.patches:
            apply(patch, Path(folder))
        sys.dont_write_bytecode = True
        sys.path.insert(0, folder)
        theirs = run_theirs(lambda: getattr(importlib.import_module(CLASS[0]), CLASS[1])().eval().double())
    ours = network.ResidualAttentionNetwork().eval().double()
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (theirs, ours)]
    if list(shapes[0].items()) != list(shapes[1].items()):
        die(CLASS[1], "its tensors have other names or shapes than ours", "report it: scripts/network.py is wrong")
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weights: dict[str, Callable[[], Any]] = {"drawn weights": lambda: drawn_weights(ours.state_dict())}
    if args.checkpoint:
        weights[str(args.checkpoint)] = lambda: network.load_checkpoint(args.checkpoint).state_dict()
    for name, load in weights.items():
        state = load()
        theirs.load_state_dict(state)
        ours.load_state_dict(state)
        with torch.inference_mode():
            wanted = run_theirs(lambda: theirs(images))
            apart = float((ours(images) - wanted).abs().max() / wanted.abs().max())
        if not apart <= TOLERANCE:
            problem = f"its logits and those of scripts/network.py are {apart:.1e} apart with the {name}"
            die(CLASS[1], problem, "report it: scripts/network.py is wrong")
        print(f"  {len(state)} tensors, {name}: logits within {apart:.1e} of upstream's (float64, relative)")


if __name__ == "__main__":
    main()
