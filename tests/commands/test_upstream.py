"""make upstream, against a stand-in for upstream's source: our own network in three files of the same names.

Its ResidualBlock is built around the very lines that the patch quotes, at the same line numbers, so that the real
patch is applied. The real source is held to in test_real.py.
"""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path

import pytest
from test_fetch import Server, server, whole  # noqa: F401  the fixture `server`

from conftest import TREE, Inputs, Project, refused, run, script_here
from formats import official

PATCH = TREE / "patches/integer-channels.patch"


def basic_layers() -> str:
    lines = [
        "from network import model",
        "from torch import nn",
        "class ResidualBlock(nn.Module):",
        "    forward = model.ResidualBlock.forward",
        "    def __init__(self, input_channels, output_channels, stride=1):",
        "        super().__init__()",
        "        self.bn1 = nn.BatchNorm2d(input_channels)",
        "        self.projects = input_channels != output_channels or stride != 1",
    ]
    for start, removed in re.findall(r"^@@ -(\d+)[ ,].*\n((?:-.*\n)+)", PATCH.read_text(), re.MULTILINE):
        lines += [""] * (int(start) - 1 - len(lines)) + [line[1:] for line in removed.splitlines()]
    lines += ["        self.conv4 = nn.Conv2d(input_channels, output_channels, 1, stride, bias=False)"]
    return "\n".join(lines) + "\n"


STAND_IN = {
    "basic_layers": basic_layers(),
    "attention_module": "from network.model import AttentionModule\n",
    "residual_attention_network": """
from network import model
from .attention_module import AttentionModule
from .basic_layers import ResidualBlock
class ResidualAttentionModel_92_32input_update(model.ResidualAttentionNetwork):
    def __init__(self):
        ours, model.ResidualBlock = model.ResidualBlock, ResidualBlock
        super().__init__()
        model.ResidualBlock = ours
""",
}


def pin(project: Project, sources: dict[str, str]) -> Path:
    """Makes `sources` the official ones and writes them to models/upstream; returns that folder."""
    folder = project.root / "models/upstream"
    folder.mkdir(parents=True)
    constants = project.tree / "scripts/formats/official.py"
    for name, text in sources.items():
        (folder / f"{name}.py").write_text(text)
        blob = run("git", "hash-object", folder / f"{name}.py").stdout.strip()
        constants.write_text(constants.read_text().replace(official.SOURCES[name].digest, blob))
    return folder


def test_equal_logits_are_confirmed_and_a_second_run_needs_no_network(fresh: Project, server: Server) -> None:  # noqa: F811
    folder = pin(fresh, STAND_IN)
    shutil.rmtree(folder)
    for name, text in STAND_IN.items():
        server.behaviours[f"{name}.py"] = partial(whole, data=text.encode())
    done = fresh.make("upstream", f"MIRROR={server.url}")
    assert "940 tensors, random weights: logits equal those of upstream (relative error 0.0e+00" in done.stdout
    assert [asked[0] for asked in server.asked] == [f"/{name}.py" for name in STAND_IN]
    assert {path.stem: path.read_text() for path in folder.glob("*.py")} == STAND_IN  # not patched in place
    assert "logits equal those of upstream" in fresh.make("upstream").stdout
    assert len(server.asked) == 3


def test_a_checkpoint_of_the_user_is_imported_and_compared(fresh: Project, inputs: Inputs) -> None:
    pin(fresh, STAND_IN)
    done = fresh.make("upstream", f"WEIGHTS={inputs.checkpoint}")
    assert "940 tensors, root/models/checkpoint.pkl: logits equal those of upstream" in done.stdout


def check_one_line(project: Project, *words: str) -> None:
    done = project.make("upstream", check=False)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert len(lines) == 2, lines  # the second line is make's own message
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("-        self.bn3", "-        self.bn33", ["does not apply", "FAILED"]),
        ("@@ -16,2 +16,2 @@", "@@ -15,2 +15,2 @@", ["does not apply", "offset"]),
        (
            "+        self.bn3 = nn.BatchNorm2d(output_channels//4)",
            "+        self.bn3 = None",
            ["differ from those of scripts/network"],
        ),
        (
            "+        self.conv3 = nn.Conv2d(output_channels//4",
            "+        self.conv3 = nn.Conv2d(9",
            ["in name or shape"],
        ),
        ("+        self.conv3 = nn.Conv2d(output_channels//4", "+        self.conv3 = nn.Conv2d(1/4", ["does not run"]),
    ],
)
def test_a_patch_that_does_not_apply_or_work_is_a_one_line_error(
    fresh: Project, old: str, new: str, words: list[str]
) -> None:
    pin(fresh, STAND_IN)
    patch = fresh.tree / "patches/integer-channels.patch"
    assert old in patch.read_text()
    patch.write_text(patch.read_text().replace(old, new))
    check_one_line(fresh, *words)


def test_a_different_function_of_the_same_weights_is_refused(fresh: Project) -> None:
    forward = "    def forward(self, image):\n        return super().forward(image.flip(3))\n"
    name = "residual_attention_network"
    pin(fresh, {**STAND_IN, name: STAND_IN[name] + forward})
    check_one_line(fresh, "with random weights", "report it")


def test_source_of_another_commit_is_not_run(fresh: Project) -> None:
    file = pin(fresh, STAND_IN) / "attention_module.py"
    file.write_text("raise SystemExit('run')\n")
    check_one_line(
        fresh, "root/models/upstream/attention_module.py: git blob ", "rm -f root/models/upstream/attention_module.py"
    )


def test_without_a_network_the_error_names_the_file_to_download_and_its_place(fresh: Project) -> None:
    done = fresh.make("upstream", check=False)
    assert (
        "fetch.py: root/models/upstream/basic_layers.py: not downloaded (127.0.0.1:9: Connection refused)"
        in done.stderr
    )
    assert re.search(r"copy http\S+/model/basic_layers.py \(git hash-object \w{40}\) there by hand", done.stderr)


def test_a_machine_without_patch_gets_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "basic_layers.py"
    source.write_text(STAND_IN["basic_layers"])
    blob = run("git", "hash-object", source).stdout.strip()
    stand_in = official.SOURCES["basic_layers"]._replace(digest=blob)
    monkeypatch.setitem(official.SOURCES, "basic_layers", stand_in)
    monkeypatch.setenv("PATH", "/nowhere")
    done = script_here("check_upstream", "--sources", source, "--patches", PATCH)
    refused(done, "patch: program not found; install it")
