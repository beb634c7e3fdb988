"""Compiled model + bins -> outputs -> accuracy."""

from __future__ import annotations

from _support import artifact, machine
from _support.artifact import digest, read_record, write_record

import errno
import hashlib
import io
import json
import math
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import numpy as np
import pytest

from auditing import figures
from conftest import SCRIPTS, Inputs, Project, accuracy_figures, environment, refused, script, script_here
from engines.feed import AHEAD, OneAtATime, Work, run_all
from formats.bins import BLOCK, read_bin
from formats.outputs import encode, read_outputs
from graphs import agreement
from network.spec import CLASSES
from params.read import read_params
from reporting import accuracy


@pytest.fixture(scope="module")
def model(optimized: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample compiled for cpu at batch size 8 (20 images: two batches and a half)."""
    folder = tmp_path_factory.mktemp("om")
    done = script_here(
        *("compile_model", "--onnx", optimized, "--chip", "cpu", "--engine", "onnxruntime"),
        *("--batch-size", 8, "--out", folder / "3d_attention_net_bs8.onnx"),
    )
    assert done.returncode == 0, done.stderr
    return folder / "3d_attention_net_bs8.onnx"


def infer(model: Path, bins: Path, out: Path, form: str = "txt") -> Any:
    record = model.with_name("bs8.json")
    return script(
        "infer", "--model", model, "--record", record, "--bins", bins, "--format", form, "--out", out / "manifest.json"
    )


@pytest.mark.parametrize("form", ["txt", "bin", "npy"])
def test_every_bin_has_an_output_and_the_padding_of_the_last_batch_is_dropped(
    model: Path, bins: Path, plain_logits: Any, tmp_path: Path, form: str
) -> None:
    done = infer(model, bins, tmp_path / "outputs", form)
    assert done.returncode == 0, done.stderr
    assert "20/20 images" in done.stderr  # plain lines if stderr is no terminal
    assert "\r" not in done.stderr
    names = {path.name for path in (tmp_path / "outputs").iterdir()}
    assert names == {"manifest.json", *(f"image_{i}_0.{form}" for i in range(20))}
    record = read_record(tmp_path / "outputs/manifest.json")
    logits = read_outputs(tmp_path / "outputs/manifest.json", record, 20)
    assert agreement.relative_error(logits, plain_logits) < 1e-4
    assert (logits.argmax(1) == plain_logits.argmax(1)).all()
    assert record["provenance"]["threads"] == machine.threads()


def test_text_outputs_have_the_format_of_ais_bench_and_full_precision(tmp_path: Path) -> None:
    row = np.array([1e-9, 1 / 3, -2.5, 1e9, 0, 1, 2, 3, 4, 5], np.float32)
    data = encode(row, "txt")
    assert data.endswith(b" \n")
    assert data.count(b"\n") == 1
    assert np.array_equal(np.array(data.split(), np.float32), row)
    assert np.load(io.BytesIO(encode(row, "npy"))).shape == (1, 10)
    assert len(encode(row, "bin")) == 40


def test_a_terminal_shows_a_progress_bar(model: Path, bins: Path, tmp_path: Path) -> None:
    reader, terminal = pty.openpty()
    record = model.with_name("bs8.json")
    done = subprocess.run(
        [sys.executable, SCRIPTS / "infer.py", "--model", model, "--record", record, "--bins", bins]
        + ["--format", "txt", "--out", tmp_path / "outputs/manifest.json"],
        stderr=terminal,
        env=environment(),
    )
    os.close(terminal)
    text = os.read(reader, 65536).decode()
    assert done.returncode == 0
    assert "\r  [####" in text
    assert "s left" in text


@pytest.mark.parametrize("fault", ["missing", "short", "long", "of other bytes"])
def test_a_bin_that_is_missing_or_of_the_wrong_size_is_named(
    model: Path, bins: Path, tmp_path: Path, fault: str
) -> None:
    shutil.copytree(bins.parent, tmp_path / "bin")
    bad = tmp_path / "bin/image_13.bin"
    if fault == "missing":
        bad.unlink()
    else:
        bad.write_bytes(b"\0" * {"short": 12284, "long": 12292}.get(fault, 12288))
    done = infer(model, tmp_path / "bin/manifest.json", tmp_path / "outputs")
    words = "bins' digest differs" if fault == "of other bytes" else "image_13.bin"
    refused(done, words, f"rm -f {tmp_path}/bin/manifest.json")
    assert not (tmp_path / "outputs").exists()
    assert not list(tmp_path.glob("*.tmp.*"))


# bins are read and outputs written while the engine runs


class Drawn:
    """`count` random bins of an in-process inference, and the bins that it has read so far.

    The engine returns the first ten values of each image, every time in the same array.
    """

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        self.images = np.random.RandomState(1).rand(count, 3, 32, 32).astype(np.float32)
        self.bins, self.out = tmp_path / "bin/manifest.json", tmp_path / "outputs/manifest.json"
        self.bins.parent.mkdir()
        for i, image in enumerate(self.images):
            image.tofile(self.bins.with_name(f"image_{i}.bin"))
        self.record = {"count": count, "digest": hashlib.sha256(self.images.tobytes()).hexdigest()}
        self.read: list[str] = []
        self.buffer = np.empty((0, 10), np.float32)
        monkeypatch.setattr("formats.bins.read_bin", self.note)

    def note(self, path: str, image: Any) -> None:
        read_bin(path, image)
        self.read.append(Path(path).name)

    def run(self, batch: Any) -> Any:
        if len(self.buffer) != len(batch):
            self.buffer = np.empty((len(batch), 10), np.float32)
        self.buffer[:] = batch.reshape(len(batch), -1)[:, :10]
        return self.buffer

    def infer(self, run: Any = None, batch_size: int = 8, form: str = "txt") -> str:
        with artifact.build_folder(self.out, {}) as job:
            work = Work(self.bins, self.record, batch_size, form, "model")
            return run_all(OneAtATime(run or self.run, {}), work, job.path)

    def refused(self, capsys: pytest.CaptureFixture[str], *words: str, run: Any = None) -> None:
        """Holds that it ends with one line, no traceback, no output, no orphan."""
        threads = threading.active_count()
        with pytest.raises(SystemExit) as stopped:
            self.infer(run)
        messages = capsys.readouterr().err + (f"{stopped.value.code}\n" if isinstance(stopped.value.code, str) else "")
        lines = messages.splitlines()
        assert len(lines) == 1
        for word in words:
            assert word in lines[0]
        assert [path.name for path in self.out.parent.parent.iterdir() if path.name[0] != "."] == ["bin"]
        assert threading.active_count() == threads


def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that within 10 s")


@pytest.mark.parametrize("batch_size", [1, 7, 32, 64])
@pytest.mark.parametrize("form", ["txt", "bin", "npy"])
def test_outputs_keep_the_order_and_the_bytes_of_a_plain_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, form: str
) -> None:
    drawn = Drawn(tmp_path, monkeypatch, 100)
    digest = drawn.infer(batch_size=batch_size, form=form)
    assert drawn.read == [f"image_{i}.bin" for i in range(100)]  # each of them once
    files = [drawn.out.with_name(f"image_{i}_0.{form}").read_bytes() for i in range(100)]
    for data, image in zip(files, drawn.images):
        row = image.ravel()[:10]
        stream = io.BytesIO()
        np.save(stream, row[None])
        text = ("%.9g " * 10 % tuple(row) + "\n").encode()
        assert data == {"txt": text, "bin": row.tobytes(), "npy": stream.getvalue()}[form]
    assert digest == hashlib.sha256(b"".join(files)).hexdigest()


def test_a_limited_number_of_bins_is_read_while_the_engine_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, calls = Drawn(tmp_path, monkeypatch, 10 * BLOCK), []

    def run(batch: Any) -> Any:
        expected = min((len(calls) + 1 + AHEAD) * BLOCK, 10 * BLOCK)
        until(lambda: len(drawn.read) >= expected)  # these are read before this call ends
        time.sleep(0.02)
        assert len(drawn.read) == expected
        calls.append(batch)
        return drawn.run(batch)

    drawn.infer(run, BLOCK)
    for batch, images in zip(calls, np.split(drawn.images, 10)):
        assert np.array_equal(batch, images)  # the array of the engine was not overwritten


def test_outputs_are_written_while_the_engine_runs_and_the_engine_waits_for_slow_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, calls, written, gate = Drawn(tmp_path, monkeypatch, 10 * BLOCK), [0], [0], threading.Event()
    write = artifact.write_bytes

    def slow(path: str, data: bytes) -> None:
        gate.wait(10)
        write(path, data)
        written[0] += 1

    def run(batch: Any) -> Any:
        if gate.is_set():
            until(lambda: written[0] >= (calls[0] - AHEAD) * BLOCK)
        calls[0] += 1
        return drawn.run(batch)

    monkeypatch.setattr("_support.artifact.write_bytes", slow)
    with ThreadPoolExecutor(1) as aside:
        job = aside.submit(drawn.infer, run, BLOCK)
        until(lambda: calls[0] == AHEAD + 1)
        time.sleep(0.05)
        assert calls[0] == AHEAD + 1  # blocks wait to be written, and no more
        gate.set()
        job.result()
    assert written == [10 * BLOCK]


def test_bins_that_change_while_they_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = Drawn(tmp_path, monkeypatch, 10 * BLOCK)

    def run(batch: Any) -> Any:
        (tmp_path / "bin/other").write_bytes(bytes(12288))
        (tmp_path / "bin/other").replace(tmp_path / f"bin/image_{10 * BLOCK - 1}.bin")
        return drawn.run(batch)

    drawn.refused(capsys, f"{drawn.bins.parent}: the bins' digest differs", run=run)


def test_a_bin_that_disappears_while_the_engine_runs_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = Drawn(tmp_path, monkeypatch, 10 * BLOCK)

    def run(batch: Any) -> Any:
        drawn.bins.with_name("image_300.bin").unlink(missing_ok=True)
        return drawn.run(batch)

    drawn.refused(capsys, "image_300.bin: missing", "rm ", run=run)


@pytest.mark.parametrize("place", [5, 300])
def test_an_output_that_is_not_finite_names_its_image_unless_the_bins_are_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    drawn = Drawn(tmp_path, monkeypatch, 10 * BLOCK)
    drawn.images[place, 0, 0, 3] = np.nan
    drawn.images[place].tofile(drawn.bins.with_name(f"image_{place}.bin"))
    drawn.refused(capsys, "the bins' digest differs")
    drawn.record["digest"] = hashlib.sha256(drawn.images.tobytes()).hexdigest()
    drawn.refused(capsys, f"the logits of image {place} are not finite")


def test_an_output_that_cannot_be_written_is_an_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, threads = Drawn(tmp_path, monkeypatch, 10 * BLOCK), threading.active_count()

    def full(path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("_support.artifact.write_bytes", full)
    with pytest.raises(OSError, match="No space") as stopped:
        drawn.infer()
    assert stopped.value.filename == drawn.out.parent  # which the hook tells, in one line
    assert len(drawn.read) < 10 * BLOCK
    assert not drawn.out.parent.exists()
    assert threading.active_count() == threads


def test_a_pipe_in_place_of_a_bin_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = Drawn(tmp_path, monkeypatch, 3)
    drawn.bins.with_name("image_1.bin").unlink()
    os.mkfifo(drawn.bins.with_name("image_1.bin"))
    drawn.refused(capsys, "image_1.bin: missing")


# threads


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ({}, math.inf),
    ],
)
def test_threads_follow_the_cgroup(tmp_path: Path, files: dict[str, str], expected: float) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.quota(tmp_path, tmp_path / "none") == expected


def test_threads_follow_the_cgroups_above_this_process(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/cpu.max").write_text("200000 100000\n")
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    (tmp_path / "own").write_text("0::/a/b\n")
    assert machine.quota(tmp_path, tmp_path / "own") == 2.0


def test_threads_follow_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(machine, "quota", lambda: math.inf)
    assert machine.threads() == 3
    monkeypatch.setattr(machine, "quota", lambda: 1.5)
    assert machine.threads() == 2
    monkeypatch.setattr(machine, "quota", lambda: 0.2)
    assert machine.threads() == 1


# accuracy


class Outputs:
    """Planted outputs: of 40 images, k of class k % 10, the first 31 predicted correctly."""

    def __init__(self, folder: Path, *, form: str = "txt", origin: str = "official") -> None:
        from hashlib import sha256

        self.folder = folder / "outputs"
        self.folder.mkdir(parents=True)
        self.labels = folder / "labels.txt"
        self.write_labels("".join(f"{k % 10}\n" for k in range(40)))
        digest_of_all = sha256()
        for i in range(40):
            row = np.zeros(10, np.float32)
            row[(i if i < 31 else i + 1) % 10] = 7.5
            data = encode(row, form)
            digest_of_all.update(data)
            (self.folder / f"image_{i}_0.{form}").write_bytes(data)
        self.model = folder / "bs16.json"
        write_record(self.model, {"sha256": "m"})
        self.manifest = self.folder / "manifest.json"
        provenance = {"model": "m", "archive": "a", "data_origin": origin, "checkpoint_origin": origin}
        self.record = {"count": 40, "format": form, "digest": digest_of_all.hexdigest(), "provenance": provenance}
        write_record(self.manifest, self.record)

    def write_labels(self, text: str) -> None:
        self.labels.write_text(text)
        write_record(self.labels.with_suffix(".json"), {"sha256": digest(self.labels), "provenance": {"archive": "a"}})

    def judge(self, *flags: str) -> Any:
        return script(
            *("postprocess", "--outputs", self.manifest, "--labels", self.labels, "--model-record", self.model),
            *(*flags, "--out", self.folder.parent / "accuracy.txt"),
        )


@pytest.mark.parametrize("form", ["txt", "bin", "npy"])
def test_accuracy_of_planted_outputs(tmp_path: Path, form: str) -> None:
    outputs = Outputs(tmp_path, form=form)
    done = outputs.judge("--published", "GPU 95.40")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "accuracy.txt").read_text().splitlines()
    assert lines[0] == "Top-1 accuracy of inference: 77.50%"
    assert lines[1] == "Correct: 31 of 40 images"
    assert lines[2] == "Wilson 95% interval: 62.50% to 87.68%"
    assert lines[3] == "Published (GPU): 95.40%, ratio to it 0.8124"
    result = json.loads((tmp_path / "accuracy.json").read_text())
    assert (result["top1"], result["correct"], result["total"]) == (0.775, 31, 40)
    assert result["wilson95"] == pytest.approx([0.62500, 0.87680], abs=5e-5)
    assert list(result["classes"]) == list(CLASSES)
    assert result["classes"]["plane"] == {"correct": 4, "total": 4}
    assert result["classes"]["car"] == {"correct": 3, "total": 4}
    assert result["confusion"][1] == [0, 3, 1, 0, 0, 0, 0, 0, 0, 0]
    assert sum(map(sum, result["confusion"])) == 40
    assert result["source"] == "cifar10"
    assert set(result["digests"]) == {"model", "labels", "predictions"}
    rows = [line.split()[0] for line in lines if line.endswith("%") and line.split()[1:2] and line.split()[1].isdigit()]
    assert rows == list(CLASSES)


def test_the_most_confident_mistakes_come_first_with_their_softmax() -> None:
    logits = np.array([[0.0] * 9 + [5.0], [9.0] + [0.0] * 9, [0.0, 2.0] + [0.0] * 8, [0.0] * 3 + [700.0] + [0.0] * 6])
    mistakes = accuracy.confident_mistakes(logits, np.array([9, 1, 0, 0]))
    assert [(m["image"], m["label"], m["found"]) for m in mistakes] == [(3, 0, 3), (1, 1, 0), (2, 0, 1)]
    assert mistakes[0]["probability"] == 1.0
    assert math.isclose(mistakes[2]["probability"], math.exp(2) / (math.exp(2) + 9))


def test_wilson_is_scipys_score_interval() -> None:
    # scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
    for (k, n), interval in {
        (9534, 10000): (0.9490918, 0.9573600),
        (0, 10): (0.0, 0.2775328),
        (10, 10): (0.7224672, 1.0),
        (1650, 2000): (0.8077288, 0.8410251),
    }.items():
        assert accuracy.wilson(k, n) == pytest.approx(interval, abs=1e-6)


@pytest.mark.parametrize(
    ("origin", "words"), [("own", "own data, own checkpoint"), ("sample", "Source: built-in sample")]
)
def test_pages_of_other_inputs_state_their_source_and_quote_no_figure(tmp_path: Path, origin: str, words: str) -> None:
    assert Outputs(tmp_path, origin=origin).judge("--published", "GPU 95.40").returncode == 0
    text = (tmp_path / "accuracy.txt").read_text()
    assert words in text
    assert "95.40" not in text


def break_outputs(outputs: Outputs, fault: str) -> str:
    """Plants a fault; returns the words that the error message must contain."""
    file = outputs.folder / "image_17_0.txt"
    data = file.read_bytes()
    other = outputs.folder / "image_5_0.txt"
    if fault == "missing":
        file.unlink()
    elif fault == "double":
        shutil.copyfile(file, outputs.folder / "image_17_0.npy")
        return "image_17_0.npy"
    elif fault == "too many":
        shutil.copyfile(file, outputs.folder / "image_40_0.txt")
        return "image_40_0.txt"
    elif fault == "short":
        file.write_bytes(b" ".join(data.split()[:9]) + b" \n")
    elif fault == "long":
        file.write_bytes(data + data)
    elif fault == "empty":
        file.write_bytes(b"")
    elif fault == "no numbers":
        file.write_bytes(b"a b c d e f g h i j \n")
    elif fault in ("nan", "inf"):
        file.write_bytes(fault.encode() + b" " + b" ".join(data.split()[1:]) + b" \n")
    elif fault == "of an earlier run":
        file.write_bytes(other.read_bytes())
        return "digest"
    elif fault == "of another model":
        write_record(outputs.model, {"sha256": "another"})
        return "written with another model"
    elif fault == "fewer labels":
        outputs.write_labels("".join(outputs.labels.read_text().splitlines(keepends=True)[:-1]))
        return "40 outputs for 39 labels"
    elif fault == "a label of 10":
        outputs.write_labels(outputs.labels.read_text().replace("3\n", "10\n", 1))
        return "labels.txt:4"
    elif fault == "labels changed by hand":
        outputs.labels.write_text(outputs.labels.read_text().replace("3\n", "4\n", 1))
        return "its digest differs from the one in labels.json"
    elif fault == "labels of another archive":
        record = {"sha256": digest(outputs.labels), "provenance": {"archive": "b"}}
        write_record(outputs.labels.with_suffix(".json"), record)
        return "different dataset archives"
    return "image_17_0.txt"


@pytest.mark.parametrize(
    "fault",
    ["missing", "double", "too many", "short", "long", "empty", "no numbers", "nan", "inf", "of an earlier run"]
    + ["of another model", "fewer labels", "a label of 10", "labels changed by hand", "labels of another archive"],
)
def test_wrong_or_missing_outputs_are_refused(tmp_path: Path, fault: str) -> None:
    outputs = Outputs(tmp_path)
    word = break_outputs(outputs, fault)
    refused(outputs.judge(), word)
    assert not (tmp_path / "accuracy.txt").exists()
    assert not (tmp_path / "accuracy.json").exists()


# the gate


def verify(tmp_path: Path, top1: float, origin: str, *references: str) -> Any:
    data, _, checkpoint = origin.partition("+")
    provenance = {"data_origin": data, "checkpoint_origin": checkpoint or data, "chip": "cpu", "batch_size": 16}
    total = 1000 if origin == "sample" else 10000
    write_accuracy(tmp_path, {**accuracy_figures(round(top1 * total), total), "provenance": provenance})
    return verify_unaudited(tmp_path, *references)


def write_accuracy(tmp_path: Path, record: dict[str, Any]) -> Path:
    """Writes results/cpu/bs16/accuracy.txt and accuracy.json with this record; returns the path of the latter."""
    path = tmp_path / "results/cpu/bs16/accuracy.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".txt").write_text("")
    path.write_text(json.dumps({"source": "cifar10", "sha256": digest(path.with_suffix(".txt")), **record}))
    return path


def verify_words(tmp_path: Path, *references: str) -> tuple[object, ...]:
    record, out = tmp_path / "results/cpu/bs16/accuracy.json", tmp_path / "junit.xml"
    return ("verify", "--accuracy", record, "--chip", "cpu", "--out", out, "--references", *references)


def run_verify(tmp_path: Path, *references: str) -> Any:
    return script(*map(str, verify_words(tmp_path, *references)))


def verify_unaudited(tmp_path: Path, *references: str) -> Any:
    """verify.py on an invented record, which no outputs and labels confirm: see tests/auditing for the audit."""
    audited = mock.patch.multiple(figures.Auditor, fault=lambda *_: None, has_outputs=lambda *_: True)
    with audited:
        return script_here(*map(str, verify_words(tmp_path, *references)))


def junit_counts(path: Path) -> dict[str, int]:
    """The counts of a junit.xml: tests, failures, errors, skipped."""
    suite = ElementTree.parse(path).getroot().find("testsuite")
    assert suite is not None
    return {name: int(value) for name, value in suite.attrib.items() if name != "name"}


def test_the_gate_fails_below_the_tolerance_and_without_a_reference(tmp_path: Path) -> None:
    good = verify(tmp_path, 0.9526, "official", "cifar10:cpu=95.34,0.1", "sample:cpu=99,0")
    assert good.returncode == 0
    assert good.stdout == "verified: Top-1 95.26%, reference 95.34% - 0.10% (cifar10 on cpu)\n"
    assert verify(tmp_path, 0.9524, "official", "cifar10:cpu=95.34,0.1").returncode == 0
    refused(verify(tmp_path, 0.9523, "official", "cifar10:cpu=95.34,0.1"), "95.23% is below 95.34%")
    assert junit_counts(tmp_path / "junit.xml") == {"tests": 1, "failures": 1, "errors": 0, "skipped": 0}
    refused(verify(tmp_path, 0.99, "official"), "no reference", "add verify.cifar10.cpu to params.yaml")
    assert junit_counts(tmp_path / "junit.xml") == {"tests": 1, "failures": 0, "errors": 1, "skipped": 0}
    refused(verify(tmp_path, 0.98, "sample", "sample:cpu=99,0"), "below 99.00%")


@pytest.mark.parametrize("origin", ["own", "own+official", "official+own", "sample+own", "own+sample"])
def test_own_inputs_are_judged_by_own_limits_only(tmp_path: Path, origin: str) -> None:
    others = ("cifar10:cpu=1,0", "sample:cpu=1,0")
    refused(verify(tmp_path, 0.99, origin, *others), "no reference", "own", "add verify.own.cpu to params.yaml")
    passed = verify(tmp_path, 0.99, origin, *others, "own:cpu=98.5,0.1")
    assert passed.stdout == "verified: Top-1 99.00%, reference 98.50% - 0.10% (own on cpu)\n"
    refused(verify(tmp_path, 0.97, origin, *others, "own:cpu=98.5,0.1"), "97.00% is below 98.50%", "own on cpu")


def test_mixed_inputs_have_no_limit(tmp_path: Path) -> None:
    limits = [f"{source}:cpu=1,0" for source in ("cifar10", "sample", "own", "mixed")]
    refused(verify(tmp_path, 0.99, "official+sample", *limits), "no reference", "data and checkpoint of one source")


def cases_of(path: Path) -> dict[tuple[str | None, str | None], tuple[str, str]]:
    """{(chip, name): (outcome, message)} of a junit.xml."""
    cases = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        outcome = next((child for child in case if child.tag != "properties"), None)
        verdict = ("passed", "") if outcome is None else (outcome.tag, str(outcome.get("message")))
        cases[case.get("classname"), case.get("name")] = verdict
    return cases


NOT_JUDGED = {
    ("make", "stages before the gate"): ("error", "not judged: a stage before the gate failed; see the output of make")
}
OFFICIAL = {"data_origin": "official", "checkpoint_origin": "official", "chip": "cpu", "batch_size": 16}
FIGURES = accuracy_figures(9534, 10000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(
            ({"top1": value}, ["(top1)"])
            for value in (float("nan"), float("inf"), True, 2, -0.5, "0.95", "x", None, [])
        ),
        *(({"correct": value}, ["(correct)"]) for value in (True, -1, 9534.0, "9534", None, float("nan"))),
        *(({"total": value}, ["(total)"]) for value in (True, 0, -1, 10000.0, "10000", None, float("inf"))),
        *(({"wilson95": value}, ["(wilson95)"]) for value in (None, [0.9], [0.9, 1.5], [float("nan"), 1])),
        *(
            ({"provenance": value}, [])
            for value in (None, {}, {**OFFICIAL, "data_origin": "mine"}, {**OFFICIAL, "given": 1})
        ),
        ({"provenance": {**OFFICIAL, "batch_size": 8}}, ["is of batch size 8, not 16"]),
        ({"provenance": {**OFFICIAL, "chip": "other"}}, ["is of chip other, not cpu"]),
        ({"provenance": {**OFFICIAL, "batch_size": True}}, ["(batch_size)"]),
        ({"top1": 0.99}, ["top1 is 0.99, but 9534 of 10000 images are correct"]),
        ({"correct": 9999}, ["top1 is 0.9534, but 9999 of 10000"]),
        ({"correct": 10001, "top1": 1.0}, ["10001 correct of 10000 images"]),
        ({"wilson95": [0.96, 0.97]}, ["its interval is 0.96 to 0.97"]),
        ({"top1": 0.9999, "correct": 9999, "wilson95": [0.99, 1.0]}, ["confusion does not have 9999 correct"]),
        ({"sha256": "0"}, ["its digest differs"]),
        ({"run": {"date": 1}}, ["(run)"]),
    ],
)
def test_a_damaged_accuracy_is_never_verified(tmp_path: Path, change: dict[str, Any], words: list[str]) -> None:
    write_accuracy(tmp_path, {**FIGURES, "provenance": OFFICIAL, **change})
    done = run_verify(tmp_path, "cifar10:cpu=1.5,0")
    refused(done, str(tmp_path / "results/cpu/bs16/accuracy."), "rm ", "then the same make command", *words)
    assert "verified" not in done.stdout
    ((name, (outcome, message)),) = cases_of(tmp_path / "junit.xml").items()
    assert (name, outcome) == (("cpu", "bs16"), "error")
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"top1": 1e400}', '{"top1": 1' + "0" * 5000 + "}", "[" * 9999, None]
)
def test_a_record_that_is_none_is_never_verified(tmp_path: Path, text: str | None) -> None:
    path = write_accuracy(tmp_path, {**FIGURES, "provenance": OFFICIAL})
    path.unlink()
    if text is not None:
        path.write_text(text)
    problem = "damaged, or written by another version" if text is not None else "no such file"
    refused(run_verify(tmp_path, "cifar10:cpu=1.5,0"), f"{path}: {problem}", "rm ")
    assert [outcome for outcome, _ in cases_of(tmp_path / "junit.xml").values()] == ["error"]


def test_without_its_page_a_record_is_never_verified(tmp_path: Path) -> None:
    page = write_accuracy(tmp_path, {**FIGURES, "provenance": OFFICIAL}).with_suffix(".txt")
    page.unlink()
    refused(run_verify(tmp_path, "cifar10:cpu=1.5,0"), f"{page}: no such file")


@pytest.mark.parametrize(
    ("origin", "images"), [("official", 500), ("official", 50000), ("sample", 500), ("sample", 10000)]
)
def test_a_limit_is_not_applied_to_another_number_of_images(tmp_path: Path, origin: str, images: int) -> None:
    provenance = {**OFFICIAL, "data_origin": origin, "checkpoint_origin": origin}
    write_accuracy(tmp_path, {**accuracy_figures(images, images), "provenance": provenance})
    needed = {"official": 10000, "sample": 1000}[origin]
    done = verify_unaudited(tmp_path, "cifar10:cpu=1.5,0", "sample:cpu=1.5,0")
    refused(done, f"is for {needed} images, not {images}, so nothing was verified")
    assert [outcome for outcome, _ in cases_of(tmp_path / "junit.xml").values()] == ["error"]


def test_the_limit_of_own_inputs_is_for_any_number_of_images(tmp_path: Path) -> None:
    write_accuracy(tmp_path, {**accuracy_figures(7, 7), "provenance": {**OFFICIAL, "data_origin": "own"}})
    assert verify_unaudited(tmp_path, "own:cpu=99,0").stdout.startswith("verified: Top-1 100.00%")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_a_record_that_this_user_may_not_read_is_an_error(tmp_path: Path) -> None:
    write_accuracy(tmp_path, {**FIGURES, "provenance": OFFICIAL}).chmod(0)
    refused(run_verify(tmp_path, "cifar10:cpu=1.5,0"), "it cannot be read (permission denied)", "owner and permissions")
    assert [outcome for outcome, _ in cases_of(tmp_path / "junit.xml").values()] == ["error"]


def test_make_verify_of_a_small_sample_states_the_number_of_images(project: Project) -> None:
    project.set("verify.sample.null", "1.01 1.01")
    done = project.make("verify", check=False)
    assert done.returncode == 2
    assert (
        "the gate of sample is for 1000 images, not 40, so nothing was verified; set sample.test_images" in done.stderr
    )


def test_junit_never_shows_the_verdicts_of_an_earlier_run(project: Project) -> None:
    junit = project.root / "results/junit.xml"
    project.judge_sample()
    project.set("verify.sample.null", "1.01 1.01")
    project.make("verify")
    passed = junit.read_text()
    assert list(cases_of(junit).values()) == [("passed", "")]

    def check(*arguments: str) -> None:
        junit.write_text(passed)
        done = project.make(*arguments, check=False)
        assert done.returncode == 2, arguments
        assert "verified" not in done.stdout
        assert cases_of(junit) == NOT_JUDGED, arguments

    for flag in ("-n", "-q"):
        project.make(flag, "verify", check=False)
        assert junit.read_text() == passed
    for arguments in (
        ["OM=/no/such"],
        ["BS=99"],
        ["CHIP=x"],
        ["typo"],
        ["-i"],
        ["--ignore-errors", "-k"],
        ["-j2", "-i"],
    ):
        check("verify", *arguments)
    shutil.rmtree(project.root / "results/null/bs16")
    image = project.root / "data/bin/image_3.bin"
    data = image.read_bytes()
    image.write_bytes(b"")
    check("verify")
    check("verify-all", "-k", "-j2")
    image.write_bytes(data)
    project.set("onnx.opset", "99")
    check("verify")
    check("accuracy", "verify", "-k")
    project.set("onnx.opset", "11")
    project.make("verify")
    assert list(cases_of(junit).values()) == [("passed", "")]


def test_a_damaged_record_leaves_the_other_verdicts(project: Project) -> None:
    project.judge_sample()
    project.set("batch_sizes", "[1, 4, 16]")
    project.set("verify.sample.null", "1.01 1.01")
    project.make("verify-all")
    assert set(cases_of(project.root / "results/junit.xml").values()) == {("passed", "")}
    record = project.root / "results/null/bs4/accuracy.json"
    record.write_text(record.read_text().replace('"top1": ', '"top1": 1'))
    done = project.make("verify-all", check=False)
    assert done.returncode == 2
    assert re.findall(r"^verified: .*, batch size (\d+)$", done.stdout, re.M) == ["1", "16"]
    assert re.search(r"^verify.py: root/results/null/bs4/accuracy.json: .*; type: rm ", done.stderr, re.MULTILINE)
    cases = cases_of(project.root / "results/junit.xml")
    assert {name: outcome for (_, name), (outcome, _) in cases.items()} == {
        "bs1 (sample)": "passed",
        "bs4": "error",
        "bs16 (sample)": "passed",
    }
    (project.root / "results/null/bs4/accuracy.txt").unlink()  # as the message says
    project.make("verify-all")


def test_files_of_a_result_that_were_deleted_are_written_again(project: Project) -> None:
    folder = project.root / "results/null/bs16"
    before = {name: (folder / name).read_text() for name in ("accuracy.txt", "predictions.csv")}
    for name in ("predictions.csv", "accuracy.json"):
        (folder / name).unlink()
        project.make("accuracy")
        assert project.pythons() == ["postprocess"]
        assert (folder / name).is_file()
        assert {name: (folder / name).read_text() for name in before} == before
        project.make("accuracy")
        assert project.pythons() == []


@pytest.mark.parametrize("total", [1, 2, 7, 1000, 10000, 123457])
def test_the_interval_ends_exactly_at_its_bounds(total: int) -> None:
    assert accuracy.wilson(total, total)[1] == 1
    assert accuracy.wilson(0, total)[0] == 0
    for correct in (0, total // 2, total):
        low, high = accuracy.wilson(correct, total)
        assert 0 <= low <= correct / total <= high <= 1


@pytest.mark.parametrize(
    "change",
    [
        *({"provenance": value} for value in (None, {}, {"model": "m"})),
        *({"count": value} for value in (None, "40", True, -1, 0)),
        *({"format": value} for value in (None, 1, "gif")),
        {"digest": None},
        {"digest": "0"},
    ],
)
def test_a_damaged_manifest_of_outputs_is_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    outputs = Outputs(tmp_path)
    outputs.record.update(change)
    write_record(outputs.manifest, outputs.record)
    refused(outputs.judge(), "outputs", "rm ")


def test_make_verify_checks_the_result_of_this_chip(project: Project) -> None:
    done = project.make("verify", check=False)
    assert done.returncode == 2
    assert "no reference accuracy for sample data with sample checkpoint on null" in done.stderr
    project.judge_sample()
    project.set("verify.sample.null", "1.01 1.01")
    assert "verified: Top-1" in project.make("verify").stdout
    assert junit_counts(project.root / "results/junit.xml") == {"tests": 1, "failures": 0, "errors": 0, "skipped": 0}


def test_verify_all_judges_every_batch_size_and_writes_junit_when_it_fails(project: Project) -> None:
    project.judge_sample()
    project.set("batch_sizes", "[1, 16]")
    project.set("verify.sample.null", "99.99 0.01")
    done = project.make("verify-all", check=False)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("verify.py")]
    assert line.startswith("verify.py: root/results/null: 2 of 2 did not pass (bs1 bs16), the first: Top-1 ")
    assert junit_counts(project.root / "results/junit.xml") == {"tests": 2, "failures": 2, "errors": 0, "skipped": 0}
    project.set("verify.sample.null", "1.01 1.01")
    assert re.findall(r"^verified: .*, batch size (\d+)$", project.make("verify-all").stdout, re.M) == ["1", "16"]


def test_the_commented_example_of_own_limits_becomes_valid(project: Project, tmp_path: Path) -> None:
    params = project.tree / "params.yaml"
    params.write_text(re.sub(r"^  # ( *(own:|  cpu: )[^\n]*)$", r"  \1", params.read_text(), flags=re.M))
    assert read_params(params)["verify.own.cpu"] == "93.10 0.20"
    params.write_text(params.read_text().replace("    cpu: 93.10 0.20", "    null: 1.01 1.01"))
    own = tmp_path / "own.pkl"
    shutil.copyfile(project.root / "models/checkpoint.pkl", own)
    with open(own, "ab") as file:
        file.write(b"\0")  # the same tensors, another digest
    done = project.make("verify", f"WEIGHTS={own}")
    assert "(own on null)" in done.stdout


@pytest.mark.parametrize("origins", [("sample", "own"), ("own", "sample")])
def test_a_mix_of_sample_and_own_inputs_is_stated(tmp_path: Path, origins: tuple[str, str]) -> None:
    outputs = Outputs(tmp_path)
    outputs.record["provenance"].update(data_origin=origins[0], checkpoint_origin=origins[1])
    write_record(outputs.manifest, outputs.record)
    assert outputs.judge("--published", "GPU 95.40").returncode == 0
    line = (tmp_path / "accuracy.txt").read_text().splitlines()[4]
    own = "own data" if origins[0] == "own" else "own checkpoint"
    assert "built-in sample" in line
    assert own in line
    assert json.loads((tmp_path / "accuracy.json").read_text())["source"] == "own"


def test_a_model_that_does_not_match_its_record_is_refused(model: Path, bins: Path, tmp_path: Path) -> None:
    for name in (model.name, "bs8.json"):
        shutil.copyfile(model.with_name(name), tmp_path / name)
    with open(tmp_path / model.name, "ab") as file:
        file.write(b"x")
    refused(
        infer(tmp_path / model.name, bins, tmp_path / "outputs"),
        model.name,
        "its digest differs from the one in bs8.json",
    )
    write_record(tmp_path / "bs8.json", {"a": 1})
    refused(infer(tmp_path / model.name, bins, tmp_path / "outputs"), "bs8.json", f"rm -f {tmp_path / model.name}")


def test_a_chip_has_one_user_at_a_time(model: Path, bins: Path, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(scripts=str(SCRIPTS), folder=str(model.parent))],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    done = infer(model, bins, tmp_path / "outputs")
    assert done.returncode == 0
    assert "in use by another process; waiting" in done.stderr
    holder.communicate()


HOLD = """
import sys, time; sys.path.insert(0, {scripts!r})
from pathlib import Path
from _support import artifact
with artifact.locked(Path({folder!r})):
    print("locked", flush=True)
    time.sleep(4)
"""


def test_inference_of_the_same_inputs_is_not_run_again(model: Path, bins: Path, tmp_path: Path, inputs: Inputs) -> None:
    assert infer(model, bins, tmp_path / "outputs").returncode == 0
    inode = (tmp_path / "outputs/manifest.json").stat().st_ino
    assert infer(model, bins, tmp_path / "outputs").returncode == 0
    assert (tmp_path / "outputs/manifest.json").stat().st_ino == inode
    (tmp_path / "outputs/image_3_0.txt").unlink()
    assert infer(model, bins, tmp_path / "outputs").returncode == 0  # a hole in it is
    assert (tmp_path / "outputs/image_3_0.txt").exists()
