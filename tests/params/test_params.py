"""params.yaml is checked before anything is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import TREE, Project, refused, script
from params.read import read_params
from params.schema import SCHEMA

PARAMS = (TREE / "params.yaml").read_text()
OWN = re.search(r"^  # own:.*\n.*$", PARAMS, re.MULTILINE).group()  # type: ignore[union-attr]


def sync(tmp_path: Path, text: str) -> Any:
    (tmp_path / "params.yaml").write_text(text)
    return script(
        *("sync_inputs", "--params", tmp_path / "params.yaml", "--requirements", TREE / "requirements.txt"),
        *("--scripts", TREE / "scripts", "--root", tmp_path / "root", "--state", tmp_path / "root/.make"),
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("upstream:\n", "upstream:\n  model_92_sgd: 3ab391d8\n", ["upstream.model_92_sgd: no longer a setting"]),
        ("  opset: 11 ", "  opzet: 11 ", ["unknown key onnx.opzet", "did you mean onnx.opset"]),
        ("  opset: 11 ", "  opset: 10 ", ["onnx.opset is '10'", "from 11 to 17"]),
        ("  opset: 11 ", "  opset: eleven ", ["onnx.opset is 'eleven'"]),
        ("  opset: 11 ", "  opset: 11.0 ", ["onnx.opset is '11.0'"]),
        ("  opset: 11 ", "", ["onnx.opset is missing"]),
        ("  opset: 11 ", "  opset: 11\n  opset: 12 ", ["duplicate key opset"]),
        ("  opset: 11 ", "  opset: ", ["onnx.opset is ''", "from 11 to 17"]),
        (
            "  opset: 11 ",
            "  opset:\n    a: 1 ",
            ["onnx.opset: has the key a below it", "use a whole number from 11 to 17"],
        ),
        ("      1: 672.122", "      x: 672.122", ["published.throughput.310.x: invalid batch size"]),
        ("      1: 672.122", "      1: 0", ["published.throughput.310.1 is '0'", "above 0"]),
        ("      1: 672.122", "      1: 1e3", ["published.throughput.310.1 is '1e3'"]),
        ("resize: nearest ", "resize: bicubic ", ["one of nearest, exact, none"]),
        ("published=GPU", "x=$(reboot)", ["has characters special to make or a shell"]),
        ("published=GPU", "x=a'c", ["has characters special to make or a shell"]),
        ("published=GPU", "x=a#b", ["has characters special to make or a shell"]),
        ("chips:\n", "chips:\n  other: engine=ascend\n", ["chips.other: soc_version= is missing"]),
        ("batch_sizes:\n", "batch_sizes:\n  - 65\n", ["batch_sizes is", "from 1 to 64"]),
        ("engine=onnxruntime ", "engine=tensorrt ", ["unknown engine tensorrt", "one of ascend, onnxruntime"]),
        ("engine=onnxruntime ", "", ["engine=NAME"]),
        ("published=GPU", "published=TPU", ["published.accuracy.TPU does not exist"]),
        ("chips:\n", 'chips:\n  "$(shell touch mark)": engine=onnxruntime\n', ["invalid key"]),
        ("chips:\n", "chips:\n  ../../up: engine=onnxruntime\n", ["invalid key"]),
        ("chips:\n", "chips:\n  ? [a, b]\n  : c\n", ["invalid key"]),
        ("onnx:\n", "onnx: &me\n  x: *me\n", ["an alias refers to itself"]),
        ("tolerance: 1.0e-4 ", "tolerance: 1e999 ", ["from 0 to 1e6"]),
        ("onnx:\n", "onnx:\n\tx: 1\n", ["not valid YAML"]),
        ("onnx:\n", "onnx: [\n", ["not valid YAML"]),
        ("  sample:      ", "  samples:      ", ["verify.samples.cpu: unknown source samples", "mean sample?"]),
        ("    310P3: 95.34 0.10\n", "    310P33: 95.34 0.10\n", ["unknown chip 310P33", "310P3"]),
        (
            "    310P3: 95.34 0.10\n",
            "    310P3: 95.34 96\n",
            ["verify.cifar10.310P3 is '95.34 96'", "smaller tolerance"],
        ),
        ("    310P3: 95.34 0.10\n", "    310P3: 100.1 1\n", ["verify.cifar10.310P3 is '100.1 1'", "in per cent"]),
        ("    310P3: 95.34 0.10\n", "    310P3: 0.9534 0.001\n", ["is '0.9534 0.001'", "in per cent"]),
        ("    310P3: 95.34 0.10\n", "    own: 95.34 0.10\n", ["verify.cifar10.own: unknown chip own"]),
        *(
            (
                "    310P3: 95.34 0.10\n",
                f"    310P3: {text}\n",
                [f"verify.cifar10.310P3 is '{text}'", f"smaller tolerance, two numbers, such as {example}"],
            )
            for text, example in {
                **dict.fromkeys(
                    ("93.10, 0.20", "93.10% 0.20", "93.10 ± 0.20 %", "93.10 -0.20", "93.10/0.2"), "93.10 0.2"
                ),
                **dict.fromkeys(
                    ("93.10", "93,10 0,20", "0.931 0.002", "high", "101 1", "1 2", "93.10 0 0"), "95.34 0.10"
                ),
            }.items()
        ),
        (OWN, "  own:", ["verify.own: no line is indented below it", "indented further than it: cpu: 93.10 0.20"]),
        (OWN, "  own:\n  cpu: 93.10 0.20", ["verify.own: no line is indented below it", "cpu: 93.10 0.20"]),
        (OWN, "  own: 93.10 0.20", ["verify.own: is '93.10 0.20', not a map", "cpu: 93.10 0.20"]),
        (OWN, "  cpu: 93.10 0.20", ["verify.cpu: a chip without source", "cifar10, sample, own"]),
        (OWN, "  own:\n    - cpu: 93.10 0.20", ["verify.own is not a map of keys", "KEY: VALUE, without -"]),
        (OWN, "  own: {cpu: {top1: 93.10}}", ["verify.own.cpu: has the key top1 below it", "such as 95.34 0.10"]),
        (OWN, "own:\n  cpu: 93.10 0.20", ["unknown key own.cpu", "indent own: and its lines below verify:"]),
        (OWN, "  own:\n    cpu:\n", ["verify.own.cpu is ''", "such as 95.34 0.10"]),
        (
            "verify:\n",
            "verify:\nx:\n",
            ["verify: no line is indented below it", "cifar10: with a line cpu: 93.10 0.20"],
        ),
        (
            "    310:\n      1: 6",
            "    310: 44\n    311:\n      1: 6",
            ["published.throughput.310: is '44'", "16: 3533.76"],
        ),
        ("    GPU: 95.40", "    GPU: 95.40 %", ["published.accuracy.GPU is '95.40 %'", "without unit, such as 95.34"]),
        ("onnx:\n", "onnx: 3\nonnx2:\n", ["onnx: is '3', not a map", "opset: VALUE"]),
        ("chips:\n", "chips:\nold:\n", ["chips: no line is indented below it", "NAME: engine=NAME"]),
        ("  loss: 0.50 ", "  loss: 0.50% ", ["int8.loss is '0.50%'", "without sign and unit, such as 0.50"]),
        ("batch_sizes:\n", "batch_sizes: 1, 4\nx:\n", ["batch_sizes is '1, 4'", "such as [1, 16]"]),
        ("batch_sizes:\n", "batch_sizes:\nx:\n", ["batch_sizes is ''", "such as [1, 16]"]),
        ("contenders: all ", "contenders: a, b ", ["bench.contenders is 'a, b'", "such as [A, B]"]),
        ("contenders: all ", "contenders: ", ["bench.contenders is ''", "such as [A, B]"]),
        ("flags: none ", "flags: --a=1 ", ["atc.flags is '--a=1'", "without --, such as a=1 b=2"]),
        ("310: engine=ascend ", "310: engine=ascend, ", ["chips.310 is", "with spaces between them"]),
    ],
)
def test_a_wrong_key_or_value_is_one_line_and_nothing_is_written(
    tmp_path: Path, old: str, new: str, words: list[str]
) -> None:
    assert old in PARAMS
    text = PARAMS.replace(old, new, 1)
    done = sync(tmp_path, text)
    refused(done, "params.yaml", *words)
    if "unknown" in words[0] and "verify" in words[0] + new:
        line = text[: PARAMS.index(old)].count("\n") + 1
        assert re.search(rf"params.yaml:({line}|{line + 1}): ", done.stderr), done.stderr
    assert not (tmp_path / "root/.make/inputs.mk").exists()
    assert not (tmp_path / "root/.make/params").exists()


@pytest.mark.parametrize("text", ["", "a list\n", "- 1\n", "\xff"])
def test_a_file_that_is_not_a_map_is_one_line(tmp_path: Path, text: str) -> None:
    refused(sync(tmp_path, text), "params.yaml")


@pytest.mark.parametrize("line", SCHEMA)
def test_every_key_that_is_missing_is_named(tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    good = yaml.load(PARAMS, yaml.BaseLoader)
    first, *rest = line.split(".")
    if rest and rest[0] != "*":
        del good[first][rest[0]]
    else:
        del good[first]
    (tmp_path / "params.yaml").write_text(yaml.dump(good))
    with pytest.raises(SystemExit):
        read_params(tmp_path / "params.yaml")
    assert f"{first}." in capsys.readouterr().err or first == line


def test_several_spaces_separate_words_like_one(tmp_path: Path) -> None:
    text = PARAMS.replace("    310P3: 95.34 0.10\n", "    310P3: 95.34\u00a0  0.10\n")
    (tmp_path / "params.yaml").write_text(text)
    assert read_params(tmp_path / "params.yaml")["verify.cifar10.310P3"] == "95.34 0.10"


def test_names_are_never_read_as_numbers(tmp_path: Path) -> None:
    text = PARAMS.replace("chips:\n", "chips:\n  910_9393: engine=onnxruntime\n")
    assert sync(tmp_path, text).returncode == 0
    assert (tmp_path / "root/.make/params/chips.910_9393").is_file()


def test_files_of_unchanged_keys_keep_their_time(tmp_path: Path) -> None:
    assert sync(tmp_path, PARAMS).returncode == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "root/.make").rglob("*") if p.is_file()}
    assert sync(tmp_path, PARAMS.replace("opset: 11 ", "opset: 12 ")).returncode == 0
    changed = {p.name for p, t in before.items() if p.stat().st_mtime_ns != t and "locks" not in p.parts}
    assert changed == {"onnx.opset", "inputs.mk"}


def test_a_failing_sync_stops_the_build(project: Project) -> None:
    project.set("onnx.opset", "99")
    done = project.make("accuracy", check=False)
    assert done.returncode == 2
    assert "params.yaml" in done.stderr
    assert "Top-1" not in done.stdout
