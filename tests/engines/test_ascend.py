"""Engine ascend with the simulated CANN tools of stand_ins/. They compute real logits by ONNX Runtime, and every record
and page that they take part in says "stand-in"."""

from __future__ import annotations

from _support import machine
from _support.artifact import read_record

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import documents
from conftest import (
    STAND_INS,
    TREE,
    Project,
    ascend_host,
    copy_of,
    environment,
    ready_host,
    run,
    shared_once,
    small_graph,
    toolkit_of,
)
from engines import CompileRequest, ModelFile
from engines.ascend import _reasons, ais_bench
from engines.ascend import compile as atc
from formats.bins import FORMS
from network.spec import FLOAT32

SIZES = ("1", "4", "8", "16", "32", "64")


@pytest.fixture(scope="session")
def compiled(built: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The built project with a small graph, compiled for 310P3 at batch size 8. Tests must not change
    it: see `npu`."""

    def build(tree: Path) -> None:
        project = copy_of(built, tree)
        for path in [*project.root.glob("models/checkpoint.*"), *project.root.glob("models/*/*.onnx")]:
            path.unlink()
        project.set("optimize.resize", "none")
        make(project, "om", f"ONNX={small_graph(tree / 'small.onnx')}")

    return Project(shared_once(tmp_path_factory, "compiled", build))


@pytest.fixture
def npu(compiled: Project, tmp_path: Path) -> Project:
    """A project of its own on a host with the stand-ins: 40 images, and bs8 compiled for 310P3."""
    return copy_of(compiled, tmp_path)


def make(project: Project, *words: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """make CHIP=310P3 BS=8 with the stand-ins; `more` goes into the environment."""
    generation = more.pop("STAND_IN_AIS", "new")
    chosen = {"CHIP": "310P3", "BS": "8", **more}
    return project.make(*words, check=check, **ascend_host(project.tree, generation, **chosen))


def calls(project: Project, tool: str) -> list[dict[str, Any]]:
    """The calls that a stand-in has logged."""
    entries = (json.loads(line) for line in (project.tree / "stand-ins.log").read_text().splitlines())
    return [entry for entry in entries if entry["tool"] == tool]


def refused(done: subprocess.CompletedProcess[str], *words: str) -> str:
    """Checks that make failed with one message of a script that contains `words`; returns it."""
    lines = [line for line in done.stderr.splitlines() if re.match(r"\w+\.py: ", line) and "interrupted" not in line]
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert re.fullmatch(r"\w+\.py: [^;]+: .+; .+", lines[0]), lines[0]
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


# The whole graph


def test_two_chips_give_the_cpus_labels_at_every_listed_batch_size(project: Project) -> None:
    project.make("accuracy", "CHIP=cpu")
    cpu = read_record(project.root / "results/cpu/bs16/accuracy.json")
    for chip, generation, layout in (("310P3", "new", "310P3"), ("910_9392", "old", "910_9392")):
        host = ascend_host(project.tree, generation, STAND_IN_NPU_SMI=layout)
        done = project.make("-j2", "accuracy-all", f"CHIP={chip}", **host)
        assert done.stdout.count("Top-1") == len(SIZES)
        for size in SIZES:
            npu = read_record(project.root / f"results/{chip}/bs{size}/accuracy.json")
            assert npu["digests"]["predictions"] == cpu["digests"]["predictions"]
            assert npu["top1"] == cpu["top1"]
            page = (project.root / f"results/{chip}/bs{size}/accuracy.txt").read_text()
            assert "stand-in" in page.split("class  ")[0]  # on the first screen
            assert f"chip {chip}, batch size {size}" in page
        project.make("accuracy-all", f"CHIP={chip}", **host)
        assert project.pythons() == []  # nothing is rebuilt


def test_every_output_format_gives_the_same_labels(npu: Project) -> None:
    predictions = set()
    for form in ("txt", "bin", "npy"):
        npu.set("infer.format", form)
        make(npu, "accuracy")
        assert (npu.root / f"results/310P3/bs8/outputs/image_39_0.{form}").is_file()
        predictions.add(read_record(npu.root / "results/310P3/bs8/accuracy.json")["digests"]["predictions"])
    assert len(predictions) == 1


# Expected arguments


def test_atc_gets_the_arguments_of_the_guide_with_a_fixed_batch(npu: Project) -> None:
    make(npu, "om", "BS=16", "CHIP=310")
    (call, *_) = [call for call in calls(npu, "atc") if "argv" in call and "--soc_version=Ascend310" in call["argv"]]
    assert call["argv"] == [
        "--framework=5",
        "--model=3d_attention_net.onnx",
        "--output=model",
        "--input_format=NCHW",
        "--input_shape=image:16,3,32,32",
        "--log=error",
        "--soc_version=Ascend310",
        "--precision_mode=force_fp16",
    ]
    assert Path(call["cwd"]).parent == npu.root / "models/om/310"
    record = read_record(npu.root / "models/om/310/bs16.json")
    assert record["engine"]["arguments"][2:] == call["argv"][2:]
    assert record["engine"]["CANN"] == "7.0.0-stand-in"
    optimized = read_record(npu.root / "models/optimized/3d_attention_net.json")["sha256"]
    assert record["key"]["inputs"] == {"onnx": optimized}
    assert "stand-in" in (npu.root / "models/om/310/bs16.log").read_text()


def test_flags_of_params_and_of_the_chips_line_reach_atc(npu: Project) -> None:
    npu.set("atc.flags", "[op_select_implmode=high_precision, enable_small_channel=1]")
    npu.set("chips.310P3", "engine=ascend soc_version=Ascend310P3 enable_small_channel=0 published=310P3")
    npu.set("atc.log", "debug")
    make(npu, "om")
    argv = calls(npu, "atc")[-2]["argv"]
    assert "--log=debug" in argv
    assert argv[7:] == [
        "--enable_small_channel=0",
        "--op_select_implmode=high_precision",
        "--precision_mode=force_fp16",
    ]
    before = npu.artifacts()
    npu.set("atc.log", "null")
    npu.set("atc.time_limit", "7201")
    npu.set("atc.memory", "9")
    make(npu, "om")
    assert npu.rebuilt(before) == set()  # they are not part of the cache key


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"precision_mode": "default"}, []),
        ({"precision_mode": "must_keep_origin_dtype"}, ["--precision_mode=must_keep_origin_dtype"]),
        ({"precision_mode": "force_fp16", "precision_mode_v2": "origin"}, ["--precision_mode_v2=origin"]),
    ],
)
def test_at_most_one_precision_mode_is_passed_because_they_exclude_each_other(
    options: dict[str, str], expected: list[str]
) -> None:
    chip = {"soc_version": "Ascend310P3", **options}
    request = CompileRequest(ModelFile(Path("/m.onnx"), b""), None, 1, Path("/m.om"), Path("/m.log"), chip, {})
    assert atc.arguments(request, "error")[7:] == expected


@pytest.mark.parametrize("flag", ["input_shape=x", "log=debug", "auto_tune_mode=RL", "soc=Ascend310", "input-shape=x"])
def test_reserved_flags_are_refused_in_every_spelling_that_atc_accepts(npu: Project, flag: str) -> None:
    npu.set("chips.310P3", f"engine=ascend soc_version=Ascend310P3 {flag} published=310P3")
    refused(make(npu, "om", check=False), flag.split("=")[0])


def test_a_flag_that_atc_does_not_know_points_to_params(npu: Project) -> None:
    npu.set("atc.flags", "no_such_flag=1")
    refused(make(npu, "om", check=False), "unknown command line flag 'no_such_flag'", "atc.flags")


def test_a_file_in_a_flag_has_an_absolute_path_and_its_content_is_in_the_cache_key(npu: Project) -> None:
    (npu.tree / "fusion.cfg").write_text("Pass:off")
    npu.set("atc.flags", "fusion_switch_file=fusion.cfg")
    make(npu, "om")
    assert f"--fusion_switch_file={npu.tree}/fusion.cfg" in calls(npu, "atc")[-2]["argv"]
    assert "fusion_switch_file" in read_record(npu.root / "models/om/310P3/bs8.json")["key"]["inputs"]
    before = npu.artifacts()
    (npu.tree / "fusion.cfg").write_text("Other:off")
    make(npu, "om")
    assert npu.rebuilt(before) == {"models/om/310P3/3d_attention_net_bs8.om"}


@pytest.mark.parametrize(("generation", "tail"), [("old", []), ("new", ["--divide_input", "1"])])
def test_ais_bench_gets_only_arguments_that_its_generation_knows(
    npu: Project, generation: str, tail: list[str]
) -> None:
    for device, more in (("0", []), ("0,1", tail)):
        shutil.rmtree(npu.root / "results/310P3", ignore_errors=True)
        make(npu, "infer", f"DEVICE={device}", STAND_IN_AIS=generation, STAND_IN_NPU_SMI="310P3-two")
        call = [call for call in calls(npu, "ais_bench") if "argv" in call and "--model" in call["argv"]][-1]
        work = Path(call["argv"][5])
        assert work.parent == npu.root / "results/310P3/bs8"
        assert call["argv"] == [
            *("--model", f"{npu.root}/models/om/310P3/3d_attention_net_bs8.om"),
            *("--input", f"{work}/bins"),
            *("--output", str(work), "--output_dirname", "out"),
            *("--batchsize", "8", "--outfmt", "NPY", "--device", device, *more),
        ]


@pytest.mark.parametrize("generation", ["old", "new"])
def test_one_device_needs_one_start_of_ais_bench_and_one_file_for_each_batch(npu: Project, generation: str) -> None:
    npu.set("sample.test_images", "42")  # not a multiple of the batch size
    make(npu, "infer", STAND_IN_AIS=generation)
    (call,) = [call for call in calls(npu, "ais_bench") if "argv" in call]
    assert "--model" in call["argv"]
    log = (npu.root / "results/310P3/bs8/infer.log").read_text()
    size = 8 * 3 * 32 * 32 * 4
    assert f"files0 size:{size} tensor0size:{size} filesperbatch:1 runcount:6" in log
    record = read_record(npu.root / "results/310P3/bs8/outputs/manifest.json")
    assert record["count"] == 42
    assert record["provenance"]["runtime"].startswith(f"ais_bench ({generation}er), CANN")


@pytest.mark.parametrize("form", ["txt", "bin", "npy"])
@pytest.mark.parametrize("generation", ["old", "new"])
def test_the_outputs_are_those_that_ais_bench_writes_for_single_images(
    npu: Project, generation: str, form: str
) -> None:
    npu.set("sample.test_images", "42")
    npu.set("infer.format", form)
    make(npu, "infer", STAND_IN_AIS=generation)
    single = npu.tree / "single"
    single.mkdir(mode=0o700)
    words = ["-m", "ais_bench", "--model", npu.root / "models/om/310P3/3d_attention_net_bs8.om", "--output", single]
    words += ["--input", npu.root / "data/bin", "--output_dirname", "out", "--outfmt", form.upper()]
    done = run("python3", *words, cwd=npu.tree, **ascend_host(npu.tree, generation))
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = npu.root / "results/310P3/bs8/outputs"
    names = {path.name for path in (single / "out").iterdir()}
    assert len(names) == 42 and names == {path.name for path in outputs.iterdir()} - {"manifest.json"}
    for name in names:
        assert (outputs / name).read_bytes() == (single / "out" / name).read_bytes()


@pytest.mark.parametrize(("batches", "devices", "needed"), [(625, 2, 2), (1, 2, 1), (2, 3, 2), (5, 4, 3), (7, 3, 3)])
def test_no_device_is_left_without_a_batch(batches: int, devices: int, needed: int) -> None:
    assert ais_bench.devices_needed(batches, devices) == needed


@pytest.mark.parametrize("generation", ["old", "new"])
def test_more_devices_than_batches_are_not_an_error(npu: Project, generation: str) -> None:
    make(npu, "infer", "BS=32", "DEVICE=0,1,2", STAND_IN_AIS=generation, STAND_IN_NPU_SMI="no-driver")
    record = read_record(npu.root / "results/310P3/bs32/outputs/manifest.json")
    assert record["provenance"]["device"] == "0,1"


def test_bins_that_have_changed_are_refused_before_ais_bench_starts(npu: Project) -> None:
    path = npu.root / "data/bin/image_3.bin"
    path.write_bytes(path.read_bytes()[::-1])
    refused(make(npu, "infer", check=False), "the bins' digest differs from the one in manifest.json")
    assert not (npu.tree / "stand-ins.log").exists() or calls(npu, "ais_bench") == []


# Failures of atc

CODES = ["E10001", "E10016", "E10054", "E13000", "E16002", "E19010", "E19999", "E20001", "E40021", "EC0010", "EZ3003"]


@pytest.mark.parametrize("code", [*CODES, "EL0003", "EE1001"])
@pytest.mark.parametrize("cann", ["7.0", "8.5"])
def test_a_failure_of_atc_names_code_cause_and_log(npu: Project, code: str, cann: str) -> None:
    done = make(npu, "om", "BS=4", check=False, STAND_IN_ATC=code, STAND_IN_CANN=cann)
    line = refused(done, "root/models/om/310P3/bs4.log", code)
    assert any(cause in line for start, cause in _reasons.ATC_CODES.items() if code.startswith(start))
    assert code in (npu.root / "models/om/310P3/bs4.log").read_text()
    assert not (npu.root / "models/om/310P3/3d_attention_net_bs4.om").exists()
    assert not list(npu.root.rglob("*.tmp.*"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nothing", ["wrote no model"]),
        ("empty", ["wrote no model"]),
        ("failed-line", ["atc failed"]),
        ("no-success", ["atc failed"]),
        ("killed", ["status 137", "memory"]),
        ("loader", ["libascend_hal.so", "devlib"]),
    ],
)
def test_status_success_line_and_a_new_file_are_all_required(npu: Project, fault: str, words: list[str]) -> None:
    npu.set("atc.memory", "7")
    om = npu.root / "models/om/310P3/3d_attention_net_bs8.om"
    before = om.read_bytes()
    npu.set("atc.precision_mode", "default")
    refused(make(npu, "om", check=False, STAND_IN_ATC=fault), "bs8.log", *words)
    assert om.read_bytes() == before  # an earlier model is kept, and not taken for the new one
    make(npu, "om")
    assert om.read_bytes() != before


@pytest.mark.parametrize("fault", ["suffix", "both", "warning"])
def test_other_file_names_and_warnings_after_success_are_accepted(npu: Project, fault: str) -> None:
    done = make(npu, "om", "BS=4", STAND_IN_ATC=fault)
    assert (npu.root / "models/om/310P3/3d_attention_net_bs4.om").stat().st_size
    assert ("W11001" in done.stdout) == (fault == "warning")


def test_an_atc_that_hangs_is_killed_with_its_children(npu: Project) -> None:
    npu.set("atc.time_limit", "2")
    refused(make(npu, "om", "BS=4", check=False, STAND_IN_ATC="hang"), "time limit", "atc.time_limit")
    time.sleep(0.5)
    assert str(npu.tree) not in run("ps", "-eo", "args").stdout


def test_terminating_make_terminates_atc_too(npu: Project) -> None:
    words = ["make", "om", "BS=4", "CHIP=310P3", "ROOT=root", f"PYTHON={npu.python}"]
    process = subprocess.Popen(
        words,
        cwd=npu.tree,
        env=environment(**ascend_host(npu.tree, STAND_IN_ATC="hang")),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not (npu.tree / "stand-ins.log").exists() or "bs4" not in (npu.tree / "stand-ins.log").read_text():
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()
    time.sleep(1.5)
    assert "stand_ins/toolkit/bin/atc" not in "".join(
        line for line in run("ps", "-eo", "args").stdout.splitlines() if str(npu.tree) in line
    )


def test_j_runs_as_many_atc_as_memory_allows_and_divides_the_cpus(
    npu: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    npu.set("atc.memory", "1000")
    shown = make(npu, "-j4", "om-all", "CHIP=310", STAND_IN_ATC="slow").stdout
    assert set(re.findall(r"batch size (\d+): atc of CANN", shown)) == {"1", "4", "8", "16", "32", "64"}
    running = most = 0
    for call in calls(npu, "atc"):
        running += 1 if "argv" in call else -1
        most = max(most, running)
    assert most == 1
    monkeypatch.setattr(machine, "threads", lambda: 40)
    monkeypatch.setattr(machine, "memory_gb", lambda: 34.0)
    for flags, expected in (
        ("", (4, 32)),
        (" -j2 --jobserver-auth=3,4 -- BS=1", (4, 16)),
        ("kw -j8", (4, 8)),
        ("-j", (4, 8)),
    ):
        monkeypatch.setenv("MAKEFLAGS", flags)
        assert atc.parallelism(8) == expected, flags
    assert atc.parallelism(100) == (1, 32)


def test_te_parallel_compiler_is_set_unless_the_user_has_set_it(npu: Project) -> None:
    make(npu, "om", "BS=4")
    assert int(calls(npu, "atc")[-2]["env"]["TE_PARALLEL_COMPILER"]) >= 1
    make(npu, "om", "BS=2", TE_PARALLEL_COMPILER="7")
    assert calls(npu, "atc")[-2]["env"]["TE_PARALLEL_COMPILER"] == "7"


# CANN's environment


def test_set_env_is_sourced_only_if_atc_is_not_on_path(npu: Project) -> None:
    make(npu, "om", "BS=4")  # SET_ENV, as ascend_host gives it
    assert calls(npu, "atc")[-2]["env"]["ASCEND_TOOLKIT_HOME"] == str(STAND_INS / "toolkit")
    host = ascend_host(npu.tree)
    host.pop("SET_ENV")
    bare = npu.make("om", "BS=2", "CHIP=310P3", check=False, **host)
    refused(bare, "atc", "make doctor")
    host["PATH"] = f"{STAND_INS / 'toolkit/bin'}:{host['PATH']}"
    npu.make("om", "BS=2", "CHIP=310P3", **host)
    host["HOME"] = str(npu.tree / "home")  # one of the usual places
    (npu.tree / "home/Ascend").mkdir(parents=True)
    (npu.tree / "home/Ascend/cann").symlink_to(STAND_INS / "toolkit")
    host["PATH"] = host["PATH"].partition(":")[2]
    npu.make("om", "BS=3", "CHIP=310P3", **host)
    npu.make("om", "BS=1", "CHIP=310P3", f"ATC={sys.executable} {STAND_INS / 'toolkit/bin/atc'}", **host)


def test_commands_and_paths_are_relative_to_the_folder_of_make(npu: Project) -> None:
    (npu.tree / "tools").mkdir()
    (npu.tree / "tools/atc.py").write_text(
        f"import runpy\nrunpy.run_path('{STAND_INS}/toolkit/bin/atc', run_name='__main__')\n"
    )
    (npu.tree / "own").symlink_to(STAND_INS / "ais_bench_old")
    make(npu, "om", "BS=4", "ATC=OPTION=1 python3 tools/atc.py")
    runtime = STAND_INS / "aclruntime"
    make(npu, "infer", "AIS_BENCH=python3 -m ais_bench", PYTHONPATH=f"own:{runtime}")


def test_a_set_env_that_is_missing_or_fails_is_one_line(npu: Project) -> None:
    make(npu, "om", "BS=5", f"SET_ENV={STAND_INS / 'toolkit'}")  # its folder is enough
    (npu.tree / "false.sh").write_text(
        f"source {STAND_INS / 'toolkit/set_env.sh'}\n[ -f /no/such ] && source /no/such\n"
    )
    make(npu, "om", "BS=6", "SET_ENV=false.sh")
    for setting in ("SET_ENV=/no/such", "ATC=/no/such"):  # before anything is built
        done = make(npu, "om", "BS=4", setting, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"*** {setting}: " in done.stderr
    npu.make("bin", "CHIP=cpu", SET_ENV="production")  # ignored if nothing uses it: it may belong to another program
    for end in ("exit", "return"):
        (npu.tree / "bad.sh").write_text(f"echo broken >&2\n{end} 3\n")
        for goal in ("om", "infer"):
            refused(make(npu, goal, "BS=4", "SET_ENV=bad.sh", check=False), "bad.sh", "status 3", "broken")
    (npu.tree / "strict.sh").write_text(f"[ $# = 0 ] || return 1\nsource {STAND_INS / 'toolkit/set_env.sh'}\n")
    make(npu, "om", "BS=7", "SET_ENV=strict.sh")  # sourced in a shell it has no arguments
    refused(make(npu, "om", "BS=4", "ATC='atc", check=False), "ATC='atc", "no closing quotation")


def test_a_path_that_canns_tools_reject_is_reported_before_they_run(npu: Project) -> None:
    odd = npu.tree.with_name("odd+folder")
    npu.tree.rename(odd)
    project = Project(odd)
    project.python.write_text(project.python.read_text().replace(str(npu.tree), str(odd)))
    refused(make(project, "om", "BS=4", check=False), "'+'", "ROOT=")
    refused(make(project, "infer", check=False), "'+'", "ROOT=")


# Failures of ais_bench


@pytest.mark.parametrize("generation", ["old", "new"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", ["1 of 5 outputs are missing, the first batch_"]),
        ("short", ["its shape is [8, 9], not [8, 10]", "batch_0_0.npy"]),
        ("nan", ["not finite"]),
        ("stale", ["older than this run"]),
        ("nothing", ["5 of 5 outputs are missing"]),
        ("truncated", ["is incomplete"]),
        ("wrong-count", ["runs over"]),
        ("no-summary", ["this run did not write"]),
        ("extra", ["batch_999_0.npy is an output of no batch"]),
        ("crash", ["ais_bench failed: status 134"]),
    ],
)
def test_everything_that_ais_bench_writes_is_checked(
    npu: Project, generation: str, fault: str, words: list[str]
) -> None:
    done = make(npu, "accuracy", check=False, STAND_IN_AIS=generation, STAND_IN_AIS_BENCH=fault)
    refused(done, "infer.log", *words)
    assert not (npu.root / "results/310P3/bs8/outputs").exists()
    assert not list(npu.root.rglob("*.tmp.*"))
    assert "Top-1" in make(npu, "accuracy", STAND_IN_AIS=generation).stdout


def test_an_ais_bench_that_hangs_is_killed(npu: Project) -> None:
    npu.set("ais_bench.time_limit", "2")
    refused(make(npu, "infer", check=False, STAND_IN_AIS_BENCH="hang"), "time limit", "npu-smi")


@pytest.mark.parametrize("generation", ["old", "new"])
def test_two_devices_give_each_image_once_and_no_output_if_one_of_them_dies(npu: Project, generation: str) -> None:
    host = {"STAND_IN_AIS": generation, "STAND_IN_NPU_SMI": "310P3-duo"}
    one = json.loads((built_cpu(npu) / "accuracy.json").read_text())["digests"]["predictions"]
    refused(
        make(npu, "accuracy", "DEVICE=0,1", check=False, **host, STAND_IN_AIS_BENCH="device1-dies"), "ais_bench failed"
    )
    if generation == "new":
        done = make(npu, "accuracy", "DEVICE=0,1", check=False, **host, STAND_IN_AIS_BENCH="duplicate")
        refused(done, "twice")
    done = make(npu, "accuracy", "DEVICE=0,1", **host, STAND_IN_AIS_BENCH="race")
    assert "device 0 (310P3), 1 (310P3)" in done.stdout
    assert read_record(npu.root / "results/310P3/bs8/accuracy.json")["digests"]["predictions"] == one


def test_another_device_does_not_run_up_to_date_results_again_and_a_line_says_so(npu: Project) -> None:
    two = {"STAND_IN_NPU_SMI": "310P3-two"}
    assert "has no effect" not in make(npu, "accuracy", "DEVICE=0", **two).stderr
    note = (
        "make: DEVICE=1 has no effect: root/results/310P3/bs8/{} is up to date and was computed on device 0 (310P3)\n"
    )
    for target in ("infer", "accuracy"):
        done = make(npu, target, "DEVICE=1", **two)
        assert done.stderr == note.format("outputs/manifest.json")
        assert "has no effect" not in make(npu, target, "DEVICE=0", **two).stderr
    make(npu, "perf", "DEVICE=0", **two)
    assert note.format("perf.json") in make(npu, "perf", "DEVICE=1", **two).stderr
    (npu.root / "results/310P3/bs8/outputs/manifest.json").unlink()
    assert "has no effect" not in make(npu, "infer", "DEVICE=1,0", **two).stderr
    assert "has no effect" not in make(npu, "infer", "DEVICE=0,1", **two).stderr  # the same devices
    assert "has no effect" not in make(npu, "perf", "DEVICE=0", **two).stderr  # the inference was on others
    assert note.format("perf.json") in make(npu, "perf", "DEVICE=1", **two).stderr


@pytest.mark.parametrize(
    ("given", "used", "is_other"),
    [
        ("0,1", "0 (310P3), 1 (310P3)", False),
        ("1,0", "0 (310P3), 1 (310P3)", False),
        ("00,01", "0,1", False),
        ("0,1,2,10", "0 (310P3), 1 (310P3)", False),  # with two batches the rest has nothing to do
        ("0", "0 (310P3), 1 (310P3)", True),
        ("2,0", "0 (310P3), 1 (310P3)", True),
        ("10", "1 (310P3)", True),
        ("1", "", False),
    ],
)
def test_a_note_about_other_devices_is_true(tmp_path: Path, given: str, used: str, is_other: bool) -> None:
    record = tmp_path / "manifest.json"
    record.write_text(f'{{\n "provenance": {{\n  "device": "{used}",\n' if used else "{}")
    done = run("sh", str(TREE / "scripts/make/other_device.sh"), given, str(record), cwd=tmp_path)
    assert ("has no effect" in done.stderr) == is_other and (not done.stderr) != is_other


def test_a_tool_that_was_given_and_not_started_is_named(npu: Project) -> None:
    toolkit = STAND_INS / "toolkit"
    values = {"ATC": toolkit / "bin/atc", "AIS_BENCH": "python3 -m ais_bench", "SET_ENV": toolkit}
    tools = {name: f"{name}={value}" for name, value in values.items()}
    model, outputs = npu.root / "models/om/310P3/bs8.json", npu.root / "results/310P3/bs8/outputs"
    done = make(npu, "infer", tools["AIS_BENCH"], tools["SET_ENV"])
    assert "has no effect" not in done.stderr  # ais_bench ran
    for path in (model, outputs):
        os.utime(path, (0, 0))
    shown = "make: {} has no effect: root/{} is up to date\n"
    assert make(npu, "om", tools["SET_ENV"]).stderr == shown.format(tools["SET_ENV"], "models/om/310P3/bs8.json")
    for name in ("AIS_BENCH", "SET_ENV"):
        assert make(npu, "infer", tools[name]).stderr == shown.format(tools[name], "results/310P3/bs8/outputs")
    assert make(npu, "accuracy", tools["ATC"]).stderr == shown.format(tools["ATC"], "models/om/310P3/bs8.json")
    assert make(npu, "accuracy", SET_ENV=tools["SET_ENV"].partition("=")[2]).stderr == ""  # of the environment
    (outputs / "manifest.json").unlink()
    assert "has no effect" not in make(npu, "infer", tools["SET_ENV"]).stderr


def built_cpu(project: Project) -> Path:
    """The results of CHIP=cpu at batch size 8."""
    project.make("accuracy", "CHIP=cpu", "BS=8")
    return project.root / "results/cpu/bs8"


@pytest.mark.parametrize("umask", ["000", "002", "022", "077"])
def test_the_newer_ais_bench_accepts_the_inputs_with_any_umask(npu: Project, umask: str) -> None:
    mode = 0o777 & ~int(umask, 8)
    for path in (npu.root / "data/bin", *(npu.root / "data/bin").iterdir()):
        path.chmod(mode if path.is_dir() else mode & 0o666)
    (npu.root / "models/om/310P3/3d_attention_net_bs8.om").chmod(mode & 0o666)
    host = ascend_host(npu.tree, "new")
    command = f"umask {umask} && exec make accuracy CHIP=310P3 BS=8 ROOT=root PYTHON={npu.python}"
    done = run("bash", "-c", command, cwd=npu.tree, **host)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(npu.root / "results/310P3")
    linked = npu.root / "data/bin/image_3.bin"
    linked.rename(npu.tree / "image_3.bin")
    linked.symlink_to(npu.tree / "image_3.bin")
    assert run("bash", "-c", command, cwd=npu.tree, **host).returncode == 0


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"STAND_IN_AIS": "llm"}, ["is not the inference tool"]),
        ({"STAND_IN_AIS_BENCH": "numpy"}, ["numpy < 2"]),
        ({"AIS_BENCH": "python3 -m no_such_module"}, ["No module named"]),
    ],
)
def test_a_wrong_or_broken_ais_bench_is_reported(npu: Project, more: dict[str, str], words: list[str]) -> None:
    refused(make(npu, "infer", check=False, **more), *words, "make doctor")


def test_a_model_for_another_chip_than_the_device_is_refused_before_it_runs(npu: Project) -> None:
    refused(make(npu, "infer", check=False, STAND_IN_NPU_SMI="310"), "device 0 is a 310", "Ascend310P3", "CHIP=310")
    refused(make(npu, "infer", "DEVICE=2", check=False), "device 2 does not exist", "0 (310P3)")
    mixed = {"STAND_IN_NPU_SMI": "mixed"}
    refused(make(npu, "infer", check=False, **mixed), "CHIP=310, or DEVICE=1")
    make(npu, "infer", ASCEND_RT_VISIBLE_DEVICES="1", **mixed)  # CANN's device 0 is then the host's device 1
    shutil.rmtree(npu.root / "results/310P3")
    done = make(npu, "infer", STAND_IN_NPU_SMI="alarm")
    assert "shows health Alarm" in done.stdout
    shutil.rmtree(npu.root / "results/310P3")
    done = make(npu, "infer", STAND_IN_NPU_SMI="no-driver")
    assert "not checked whether device 0 is Ascend310P3" in done.stdout  # a container often has no npu-smi


def test_two_runs_that_number_the_devices_differently_do_not_deadlock(npu: Project) -> None:
    make(npu, "om", "BS=4")
    one = begin(npu, "infer", STAND_IN_AIS_BENCH="slow", STAND_IN_NPU_SMI="310P3-two")
    other = copy_of(npu, npu.tree.with_name("other"))
    more = {"STAND_IN_NPU_SMI": "310P3-two", **npu.locks}
    time.sleep(1)  # both begin while the first device is in use
    both = [
        begin(project, "infer", "DEVICE=0,1", f"BS={size}", ASCEND_RT_VISIBLE_DEVICES=order, **more)
        for project, size, order in ((npu, 4, "0,1"), (other, 8, "1,0"))
    ]
    assert [process.wait(60) for process in (one, *both)] == [0, 0, 0]


def test_a_device_has_one_user_at_a_time_and_two_devices_two(npu: Project) -> None:
    make(npu, "-j4", "om", "BS=4")
    hosts = ascend_host(npu.tree, STAND_IN_NPU_SMI="310P3-two", STAND_IN_AIS_BENCH="slow")
    words = ["make", "infer", "CHIP=310P3", "ROOT=root", f"PYTHON={npu.python}"]
    both = [
        subprocess.Popen([*words, size], cwd=npu.tree, env=environment(**hosts), stderr=subprocess.PIPE, text=True)
        for size in ("BS=4", "BS=8")
    ]
    texts = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert sum("device 0 in use; waiting" in text for text in texts) == 1


# Your own .om


def test_an_own_om_is_run_unchanged_and_kept(npu: Project, tmp_path: Path) -> None:
    model = npu.root / "models/om/310P3/3d_attention_net_bs8.om"
    own = npu.tree / "ready.om"
    own.write_bytes(model.read_bytes() + b" \n")
    done = make(npu, "accuracy", f"OM={own}")
    assert "Source: built-in sample data, own .om" in done.stdout
    assert model.read_bytes() == own.read_bytes()
    npu.set("atc.precision_mode", "default")
    before = npu.artifacts()
    make(npu, "accuracy")
    assert npu.rebuilt(before) == set()
    done = make(npu, "accuracy", f"OM={own}", "CHIP=cpu", check=False)
    assert f"OM={own}: chip cpu does not run .om files; set CHIP= to a chip that does" in done.stderr
    assert done.stdout == ""
    (npu.tree / "empty.om").write_bytes(b"")
    for wrong in ("empty.om", "params.yaml"):
        refused(make(npu, "accuracy", f"OM={npu.tree / wrong}", check=False), wrong, "not an .om file")
    assert model.read_bytes() == own.read_bytes()


def test_an_own_om_of_another_batch_size_is_refused_even_with_the_same_number_of_runs(npu: Project) -> None:
    own = npu.root / "models/om/310P3/3d_attention_net_bs8.om"
    refused(make(npu, "infer", "BS=4", f"OM={own}", check=False), "batch size is 8, not 4", "set BS=8", "your own .om")
    done = make(npu, "infer", "BS=4", f"OM={own}", check=False, STAND_IN_AIS_BENCH="hang")
    refused(done, "batch size is 8, not 4")  # as soon as ais_bench prints it
    shutil.copyfile(own, npu.tree / "nine.om")
    refused(make(npu, "infer", "BS=9", f"OM={npu.tree}/nine.om", check=False), "batch size is 8, not 9")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[ERROR] arg0 tensorsize: 49152 filesize: 98304 not match", "batch size is 4, not 8; set BS=4, or rm"),
        (
            "[INFO] get filesperbatch files0 size:98304 tensor0size:196608 filesperbatch:2 runcount:3",
            "size is 16, not 8",
        ),
        (
            "[ERROR] arg0 tensorsize: 3072 filesize: 98304 not match",
            "input has 3072 bytes, not 98304; use a model for 8 float32",
        ),
        ("[INFO] get filesperbatch files0 size:98304 tensor0size:98304 filesperbatch:1 runcount:5", ""),
    ],
)
def test_packed_files_that_do_not_fit_the_model_are_one_line(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) if message else contextlib.nullcontext():
        ais_bench.check_batch(
            f"[INFO] acl init success\n{line}\n", FORMS[FLOAT32], 8, Path("infer.log"), ", or rm x.om"
        )
    assert message in capsys.readouterr().err


STAMP = "[PID: 7] 2026-01-31-12:00:00.000.001"
CHIP, MEMORY = _reasons.CHIP, _reasons.MEMORY


@pytest.mark.parametrize(
    ("text", "reason", "remedy"),
    [
        ("[ERROR] arg0 tensorsize: 1 filesize: 2 not match\nRuntimeError: x not match", "[ERROR] arg0", "batch size"),
        ("ModuleNotFoundError: No module named 'aclruntime'", "ModuleNotFoundError", "install ais_bench"),
        ("[ERROR] load model from file failed, code 500002", "[ERROR] load", CHIP),
        ("ImportError: numpy.core.multiarray failed to import", "ImportError", "numpy < 2"),
        ("ImportError: libascendcl.so: cannot open shared object file: No such file", "ImportError", "SET_ENV="),
        ("", "no output", "make doctor"),
        # Both generations; a code in the text, in brackets after a name, or on a later line
        (f"[ACL ERROR] EE1001: {STAMP} bad.Reason: socVersion=A\n[ERROR] load failed", "EE1001: bad.Reason: soc", CHIP),
        (f"[INFO] x\nEE1001: {STAMP} bad.Reason: socVersion=A\n[ERROR] load failed", "EE1001: bad.Reason: soc", CHIP),
        ("[ACL ERROR]\nEE1001: bad.Reason: socVersion=A\n[ERROR] load failed", "EE1001: bad.Reason: soc", CHIP),
        (
            f"[ERROR] x\n{STAMP} Invalid_Argument(EE1001): no context\n ctx is NULL",
            "Invalid_Argument(EE1001): no",
            "driver",
        ),
        (f"EZ9999: Inner Error!\nEZ9999: {STAMP} rtMalloc failed, out of memory", "EZ9999: rtMalloc failed", MEMORY),
        ("EZ9999: Inner Error!\n        rtMalloc failed, out of memory", "EZ9999: Inner Error! rtMalloc", MEMORY),
        ("E19999: Inner Error!\nEE1001: socVersion=A", "EE1001: socVersion", CHIP),  # the specific one
        ("EL0004: Failed to allocate memory.\n  Solution: check the permission", "EL0004: Failed", MEMORY),
        ("[ACL ERROR] ACL_ERROR_RT_TASK_TYPE_NOT_SUPPORT(507009): no\n[ERROR] x", "ACL_ERROR_RT_TASK", "vNPU (vir01"),
        ("[ERROR] load model failed, ret is 507009", "[ERROR] load model failed", "vNPU (vir01"),
        ("[ACL ERROR] the device is on strike\n[ERROR] x", "the device is on strike", "npu-smi info"),
        # Errors before warnings
        ("[WARN] EE1001: old flag\n[ERROR] load model failed, ret 500002", "[ERROR] load model failed", CHIP),
        ("[WARNING] EE1001: old\n[ACL ERROR] EL0004: Failed to allocate memory", "EL0004: Failed", MEMORY),
        ("[WARNING] EE1001: old flag", "EE1001: old flag", "driver"),
        # numpy 2, memory and disk of the host
        (
            "A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.2.6 as it may crash.\n"
            "Traceback:\nAttributeError: _ARRAY_API not found",
            "A module that was compiled using NumPy 1.x cannot be run in NumPy 2.2.6 as it may crash.",
            "python3 -m pip install 'numpy<2' with the python3 that ais_bench uses",
        ),
        (
            "  raise ImportError('numpy.core.multiarray failed')\nImportError: numpy.core.multiarray failed",
            "Imp",
            "< 2",
        ),
        ("AttributeError: _ARRAY_API not found\nSegmentation fault", "AttributeError: _ARRAY", "numpy < 2"),
        ("AttributeError: _ARRAY_API not found\n[ERROR] load failed, 500002\nRuntimeError: x", "[ERROR] load", CHIP),
        ("AttributeError: module 'numpy' has no attribute 'float'", "AttributeError: module", "'numpy<1.24'"),
        ("ModuleNotFoundError: No module named 'numpy'", "ModuleNotFoundError", "install that module"),
        ("OSError: [Errno 12] Cannot allocate memory", "OSError: [Errno 12]", "the host's memory is full"),
        ("OSError: [Errno 12] Cannot allocate memory\nE19999: Inner Error!", "OSError: [Errno 12]", "host's memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "terminate called", "host's memory"),
        ("OSError: [Errno 28] No space left on device: x", "OSError: [Errno 28]", "free disk space"),
        # The device and the tool
        ("[ERROR] open device 0 failed\nRuntimeError: [107001]", "[ERROR] open device 0 failed", "reset it"),
        ("[ERROR] acl execute failed, ret 507015", "[ERROR] acl execute failed", "failed while it ran"),
        ("EZ9999: Inner Error!\nEZ9999: there is an aicore error, core id is 0", "EZ9999: there is", "failed while it"),
        ("[ERROR] path : /x is not owned by current user", "[ERROR] path", "must belong to you"),
        ("    def f(a, /):\nSyntaxError: invalid syntax", "SyntaxError", "does not run on this python3"),
        ("ImportError: aclruntime.so: undefined symbol: aclmdlX", "ImportError", "built for another CANN"),
        # The loader
        (
            "ImportError: libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by /opt/Ascend/lib64/libge.so)",
            "ImportError",
            "this CANN was built for a newer system",
        ),
        (
            "ImportError: libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by /opt/cann/aclruntime.x.so)",
            "ImportError",
            "build aclruntime on this host",
        ),
        ("ImportError: libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by x)", "ImportError", "libstdc++"),
        ("x: /lib64/libc.so.6: version `GLIBC_2.34' not found (required by x)", "x: /lib64/libc.so.6", "newer system"),
        (
            "ImportError: libstdc++.so.6: version `CXXABI_1.3.13' not found (required by x)",
            "ImportError",
            "newer system",
        ),
        ("OSError: libgomp.so.1: cannot allocate memory in static TLS block", "OSError: libgomp", "LD_PRELOAD="),
        (
            "ImportError: libascend_hal.so: cannot open shared object file: x",
            "ImportError: libasc",
            "install the driver",
        ),
        ("python3: libpython3.9.so.1.0: cannot open shared object file: x", "python3: libpython", "of the python3"),
        ("ImportError: libgomp.so.1: cannot open shared object file: x", "ImportError: libgomp", "install the library"),
        ("ImportError: /x/libge.so: file too short", "ImportError: /x/libge.so", "install its package again"),
        # Limits of the host, before what follows from them
        (
            "terminate called after throwing an instance of 'std::system_error'\n"
            "  what():  Resource temporarily unavailable\nAborted (core dumped)",
            "terminate called after throwing an instance of 'std::system_error': Resource temporarily unavailable",
            "ulimit -u, or pids.max",
        ),
        (
            "terminate called after throwing an instance of 'x'\n  what():  y\nAborted",
            "terminate called after",
            "doctor",
        ),
        ("RuntimeError: can't start new thread", "RuntimeError: can't", "ulimit -u"),
        ("BlockingIOError: [Errno 11] Resource temporarily unavailable", "BlockingIOError", "ulimit -u"),
        ("OSError: [Errno 24] Too many open files: 'x'", "OSError: [Errno 24]", "ulimit -n"),
        (
            "[ERROR] DRV(1,python3):open /dev/davinci0 failed, errno 13: Permission denied\n"
            "[ACL ERROR] ACL_ERROR_RT_DEV_SETUP_ERROR(507899): open device failed",
            "DRV(1,python3):open /dev/davinci0 failed, errno 13: Permission denied, then ACL_ERROR_RT_DEV",
            "join its group (HwHiAiUser",
        ),
        (
            "[ERROR] set device failed, ret is 507899\n[ERROR] DRV: open /dev/davinci0 failed, Permission denied",
            "DRV: open",
            "HwHiAiUser",
        ),
        ("OSError: [Errno 28] No space left on device: '/psm_ab12'", "OSError: [Errno 28]", "--shm-size"),
        ("Bus error (core dumped)", "Bus error", "--shm-size"),
        ("Illegal instruction (core dumped)", "Illegal instruction", "another kind of CPU"),
        ("/x/python3: cannot execute binary file: Exec format error", "/x/python3: cannot", "another kind of CPU"),
        ("OSError: [Errno 30] Read-only file system: '/root/ascend'", "OSError: [Errno 30]", "read-only"),
        ("UnicodeEncodeError: 'ascii' codec can't encode x", "UnicodeEncodeError", "LC_ALL=C.UTF-8"),
        ("OSError: [Errno 24] x\n[ACL ERROR] EE1001: socVersion=A", "EE1001: socVersion=A", CHIP),  # explains itself
        # Colours
        ("\x1b[31m[ERROR]\x1b[0m load model from file failed, code 500002", "[ERROR] load", CHIP),
        ("\x1b[1;31mEE1001: bad.Reason: socVersion=A\x1b[0m", "EE1001: bad.Reason: socVersion=A", CHIP),
    ],
)
def test_what_cann_says_is_shown_with_the_remedy_that_fits(text: str, reason: str, remedy: str) -> None:
    found = _reasons.explain_ais_bench(text, 1)
    assert found[0].startswith(f"status 1, {reason}")
    assert remedy in found[1]


def test_progress_and_information_are_not_the_reason() -> None:
    bar = "[INFO] load model success\nInference array Processing:  50%|#####     | 8/16 [00:16<00:16]"
    assert _reasons.explain_ais_bench(bar, 134)[0] == "status 134, SIGABRT, [INFO] load model success"


@pytest.mark.parametrize(
    ("text", "reason", "remedy"),
    [
        (f"{atc.FAILED}, x\nE10001: {STAMP} Value x.\n  Solution: see", "E10001: Value x.", "a flag is wrong"),
        (f"{atc.FAILED}, x\n{STAMP} Invalid_Argument(E10001): Value x", "Invalid_Argument(E10001): Value", "a flag"),
        (f"{atc.FAILED}, x\nEZ9999: Inner Error!\nEZ9999: {STAMP} No kernel", "EZ9999: No kernel", "an operator"),
        (f"E16002: before\n{atc.FAILED}, x", "E16002: before", "onnx.opset"),
        (
            "atc.bin: libstdc++.so.6: version `GLIBCXX_3.4.29' not found",
            "status 1, atc.bin",
            "use a CANN that supports",
        ),
        ("atc.bin: libc.so.6: version `GLIBC_2.34' not found", "status 1, atc.bin", "use a CANN that supports"),
        # Errors before warnings
        (
            f"[WARN] EE1001: old\n[ERROR] EZ3003: No Ops kernel\n{atc.FAILED}, x",
            "EZ3003: No Ops",
            "operator of the graph",
        ),
        (f"{atc.FAILED}, x\n[WARNING] EE1001: old\nE40021: Failed to compile Op", "E40021: Failed", "does not compile"),
        (
            f"[WARNING] EE1001: old\n[ERROR] GE(1): build failed\n{atc.FAILED}, x",
            "status 1, GE(1): build",
            "make doctor",
        ),
        (f"[WARNING] EE1001: old\n{atc.FAILED}, x", "EE1001: old", "make doctor"),
        # What came before an inner error
        (f"sh: fork: Cannot allocate memory\n{atc.FAILED}, x\nE19999: Inner Error!", "sh: fork: Cannot", "free memory"),
        (
            f"OSError: [Errno 12] Cannot allocate memory\n{atc.FAILED}, x\nE40021: Failed to compile Op",
            "OSError: [Errno 12] Cannot allocate memory, then E40021",
            "free memory",
        ),
        (f"BrokenProcessPool: a\n{atc.FAILED}, x\nE40021: Failed to compile Op", "BrokenProcessPool: a", "free memory"),
        (f"OSError: [Errno 28] a\n{atc.FAILED}, x\nE19999: Inner Error!", "OSError: [Errno 28] a", "free disk space"),
        (f"OSError: [Errno 28] a\n{atc.FAILED}, x\nE16002: No parser", "E16002: No parser", "onnx.opset"),
        (
            f"AttributeError: `np.float_` was removed in the NumPy 2.0 release.\n{atc.FAILED}, x\nE19999: Inner Error!",
            "AttributeError: `np.float_` was removed in the NumPy 2.0 release, then E19999",
            "python3 -m pip install 'numpy<2' with the python3 that atc takes from PATH",
        ),
        (f"{atc.FAILED}, x\nEC0010: Failed to import [`np.float_` was removed in the NumPy 2.0", "EC0010", "'numpy<2'"),
        (f"{atc.FAILED}, x\nEC0010: [module 'numpy' has no attribute 'float'].", "EC0010", "'numpy<1.24'"),
        (
            f"No module named 'decorator'\n{atc.FAILED}, x\nE19999: Inner Error!",
            "No module named 'dec",
            "lacks a module",
        ),
        (
            f"cannot pickle 'FrameLocalsProxy' object\n{atc.FAILED}, x\nE40021: F",
            "cannot pickle",
            "support this python3",
        ),
        (f"mkdir a: Permission denied\n{atc.FAILED}, x\nE19999: Inner Error!", "mkdir a: Perm", "cannot read or write"),
        (
            f"{atc.FAILED}, x\nE19999: Inner Error, please contact support!\nE19999: {STAMP} Call Infer failed",
            "E19999: Call Infer failed",
            "CANN's own log",
        ),
        # The command line
        (
            f"ERROR: flag 'log' is missing its argument; flag description: x\n{atc.FAILED}",
            "ERROR: flag 'log'",
            "atc.flags",
        ),
        (f"ERROR: Non-option parameter: x\n{atc.FAILED}", "ERROR: Non-option", "atc.flags"),
        ("ImportError: libgomp.so.1: cannot allocate memory in static TLS block", "status 1, Import", "LD_PRELOAD="),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "status 1, terminate", "free memory"),
        (f"{atc.FAILED}, x\nE19999: Inner Error!\n  The ops package is not installed", "E19999: Inner", "ops package"),
        # Limits of the host, Python's modules, colours
        (
            "terminate called after throwing an instance of 'std::system_error'\n"
            "  what():  Resource temporarily unavailable\nAborted (core dumped)",
            "status 1, terminate called after throwing an instance of 'std::system_error': Resource temporarily",
            "ulimit -u, or pids.max",
        ),
        (f"RuntimeError: can't start new thread\n{atc.FAILED}, x\nE40021: F", "RuntimeError: can't", "ulimit -u"),
        (f"{atc.FAILED}, x\nEC0010: Failed to import [No module named 'imp'].", "EC0010", "an older python3"),
        (f"{atc.FAILED}, x\nEC0010: Failed to import [No module named 'distutils'].", "EC0010", "an older python3"),
        (f"{atc.FAILED}, x\nEC0010: Failed to import [No module named 'important'].", "EC0010", "lacks a module"),
        (
            f"{atc.FAILED}, x\nE40020: Failed to compile Op\nOSError: [Errno 24] Too many open files",
            "OSError: [Errno 24] Too many open files, then E40020",
            "ulimit -n",
        ),
        (f"{atc.FAILED}, x\nE40020: F\n  OSError: [Errno 28] x: '/psm_ab12'", "OSError: [Errno 28]", "--shm-size"),
        ("atc.bin: cannot execute binary file: Exec format error", "status 1, atc.bin", "another kind of CPU"),
        ("Illegal instruction (core dumped)", "status 1, Illegal", "another kind of CPU"),
        (f"{atc.FAILED}, x\n\x1b[31mE10001: Value x.\x1b[0m", "E10001: Value x.", "a flag is wrong"),
        (f"\x1b[31mERROR: flag 'log' is missing its argument\x1b[0m\n{atc.FAILED}", "ERROR: flag 'log'", "atc.flags"),
    ],
)
def test_what_atc_says_is_shown_with_the_remedy_that_fits(text: str, reason: str, remedy: str) -> None:
    found = _reasons.explain_atc(text, 1)
    assert found[0].startswith(reason)
    assert remedy in found[1]


@pytest.mark.parametrize("generation", ["old", "new"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("load", ["EE1001: The argument is invalid.Reason: ModelCheckCompatibility", "for another chip", "make om"]),
        ("memory", ["EZ9999: rtMalloc failed", "(npu-smi shows now: device 0 1074 / 21534 MB)", "another DEVICE="]),
        ("slice", ["ACL_ERROR_RT_TASK_TYPE_NOT_SUPPORT(507009)", "on a vNPU"]),
    ],
)
def test_a_model_that_does_not_load_is_explained_by_canns_own_words(
    npu: Project, generation: str, fault: str, words: list[str]
) -> None:
    done = make(npu, "infer", check=False, STAND_IN_AIS=generation, STAND_IN_AIS_BENCH=fault)
    line = refused(done, "infer.log: ais_bench failed: status 1, ", *words)
    assert "your own .om" not in line  # compiled from an own .onnx


# Versions of CANN


def test_an_om_of_a_newer_cann_is_refused_before_the_device_is_touched(npu: Project) -> None:
    newer, older = (toolkit_of(npu.tree / version, version, ops=version) for version in ("9.1.0", "9.0.0"))
    assert "atc of CANN 9.1.0" in make(npu, "om", "BS=4", SET_ENV=str(newer)).stdout
    (npu.tree / "stand-ins.log").write_text("")
    om = "root/models/om/310P3/3d_attention_net_bs4.om"
    done = make(npu, "infer", "BS=4", check=False, SET_ENV=str(older))
    refused(done, f"infer.py: {om}: compiled by CANN 9.1.0, which is newer than CANN 9.0.0", f"rm {om} and make om")
    assert calls(npu, "ais_bench") == []
    make(npu, "infer", "BS=4", SET_ENV=str(newer))
    shutil.copy(npu.tree / om, npu.tree / "own.om")
    make(npu, "infer", "BS=4", f"OM={npu.tree}/own.om", SET_ENV=str(older))  # of an unknown version


def test_an_om_of_a_very_old_cann_is_run_with_a_remark(npu: Project) -> None:
    done = make(npu, "infer", SET_ENV=str(toolkit_of(npu.tree / "9.1.0", "9.1.0")))
    assert "compiled by CANN 7.0.0-stand-in, more than 4 versions before CANN 9.1.0" in done.stdout


def test_a_failure_for_lack_of_the_ops_package_names_it(npu: Project) -> None:
    without, complete = toolkit_of(npu.tree / "a", "8.5.0"), toolkit_of(npu.tree / "b", "8.5.0", ops="8.5.0")
    for code in ("EZ3003", "E40021", "E19999"):
        done = make(npu, "om", "BS=4", check=False, STAND_IN_ATC=code, SET_ENV=str(without))
        assert refused(done, code).endswith(_reasons.OPS)
        done = make(npu, "om", "BS=4", check=False, STAND_IN_ATC=code, SET_ENV=str(complete))
        assert "ops package" not in refused(done, code)
    assert "a flag is wrong" in refused(
        make(npu, "om", "BS=4", check=False, STAND_IN_ATC="E10001", SET_ENV=str(without))
    )


def test_which_cann_is_used_and_which_others_there_are_is_printed(npu: Project) -> None:
    for name, version in (("cann", "9.0.0"), ("ascend-toolkit", "8.0.0")):
        toolkit_of(npu.tree / "home/Ascend" / name, version)
    done = make(npu, "om", "BS=4", SET_ENV="", HOME=str(npu.tree / "home"))
    assert "atc of CANN 9.0.0" in done.stdout
    other = npu.tree / "home/Ascend/ascend-toolkit/set_env.sh"
    assert f"also installed: CANN 8.0.0 ({other}); set SET_ENV= to use another one" in done.stdout


# Devices


def test_a_container_with_two_dies_of_a3_runs_on_devices_0_and_1(npu: Project) -> None:
    host = {"STAND_IN_NPU_SMI": "910_9392-container", "STAND_IN_DEVICES": "2"}
    assert "device 0 (910_9392)" in make(npu, "accuracy", "CHIP=910_9392", **host).stdout
    refused(make(npu, "infer", "CHIP=910_9392", "BS=4", "DEVICE=4", check=False, **host), "device 4 does not exist")
    done = make(npu, "accuracy", "CHIP=910_9392", "BS=4", "DEVICE=0,1", **host)
    assert "device 0 (910_9392), 1 (910_9392)" in done.stdout


def test_two_devices_of_one_chip_do_not_wait_for_each_other(npu: Project) -> None:
    """As a soft partition shows them."""
    page = (STAND_INS / "npu-smi/910_9392").read_text().replace("| 1       1 ", "| 0       0 ")
    (npu.tree / "page").write_text(page)
    program = npu.tree / "path/npu-smi"
    host = ascend_host(npu.tree)
    program.write_text(f"#!/bin/sh\ncat {npu.tree}/page\n")
    program.chmod(0o755)
    done = npu.make("infer", "CHIP=910_9392", "BS=8", "DEVICE=0,1", **host)
    assert "in use" not in done.stderr


def test_a_slice_and_an_unhealthy_device_are_named_whatever_the_chip_is_called(npu: Project) -> None:
    done = make(npu, "infer", STAND_IN_NPU_SMI="310Pvir01")
    assert "device 0: 310Pvir01 is a vNPU, on which an .om of CANN 8 or newer may not load" in done.stdout
    npu.set("chips.910B4-1", "engine=ascend soc_version=Ascend910B4-1")
    done = make(npu, "infer", "CHIP=910B4-1", "DEVICE=2", STAND_IN_NPU_SMI="910B4-1")
    assert "device 2: npu-smi shows health Alarm; run npu-smi info -t health -i 7" in done.stdout
    refused(
        make(npu, "infer", "CHIP=910B4-1", "BS=4", "DEVICE=9", check=False, STAND_IN_NPU_SMI="910B4-1"), "0 (910B4-1)"
    )


def test_a_row_of_npu_smi_that_is_not_understood_is_quoted_and_does_not_stop_a_run(npu: Project) -> None:
    program = npu.tree / "path/npu-smi"
    host = ascend_host(npu.tree)
    program.write_text("#!/bin/sh\necho '| 0  310P3 X | OK | 1 |'\n")
    program.chmod(0o755)
    done = npu.make("infer", "CHIP=310P3", "BS=8", **host)
    assert "npu-smi info shows a row that is not understood: | 0 310P3 X | OK | 1 |: not checked whether" in done.stdout


# Kills and restarts


def begin(project: Project, *words: str, **more: str) -> subprocess.Popen[bytes]:
    """Starts make CHIP=310P3 BS=8 in a new process group."""
    arguments = ["make", "CHIP=310P3", "BS=8", "ROOT=root", f"PYTHON={project.python}", *words]
    null = subprocess.DEVNULL
    host = environment(**ascend_host(project.tree, **more))
    return subprocess.Popen(arguments, cwd=project.tree, env=host, stdout=null, stderr=null, start_new_session=True)


def test_kill_9_at_any_moment_of_a_compilation_or_a_run_does_no_damage(npu: Project) -> None:
    shutil.rmtree(npu.root / "models/om/310P3")
    make(npu, "accuracy")
    expected = read_record(npu.root / "results/310P3/bs8/accuracy.json")["digests"]
    draw = random.Random()
    for moment in [draw.uniform(0.3, 3.0) for _ in range(5)]:
        shutil.rmtree(npu.root / "models/om/310P3")
        shutil.rmtree(npu.root / "results/310P3")
        process = begin(npu, "accuracy", STAND_IN_ATC="slow", STAND_IN_AIS_BENCH="slow")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moment)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done = make(npu, "accuracy")
        assert read_record(npu.root / "results/310P3/bs8/accuracy.json")["digests"] == expected, (moment, done.stderr)
        assert not list(npu.root.rglob("*.tmp.*"))


def test_terminating_only_make_leaves_nothing_running(npu: Project) -> None:
    process = begin(npu, "infer", "DEVICE=0,1", STAND_IN_AIS_BENCH="slow", STAND_IN_NPU_SMI="310P3-two")
    while not list(npu.root.glob("results/310P3/bs8/ais_bench.tmp.*/out/*/batch_*")):
        time.sleep(0.05)
    process.terminate()  # make, not its group
    process.wait()
    assert "in use" not in make(npu, "infer").stderr
    assert not [
        line
        for line in run("ps", "-eo", "args").stdout.splitlines()
        if f"{npu.tree}" in line and "ais_bench.tmp" in line
    ]


def test_workers_that_a_dying_atc_leaves_do_not_keep_its_slot(npu: Project) -> None:
    leaking = npu.tree / "leaking"
    leaking.write_text("#!/bin/sh\nsleep 90 &\nkill -9 $$\n")
    leaking.chmod(0o755)
    npu.set("atc.memory", "1000")
    refused(make(npu, "om", "BS=4", "ATC=./leaking", check=False), "status 137")
    assert "in use" not in make(npu, "om", "BS=4").stderr


def test_processes_that_a_killed_run_left_on_the_device_are_killed(npu: Project) -> None:
    wrapper = npu.tree / "wrapper"  # like vendor tools, it starts a child, which kill -9 of make does not reach
    wrapper.write_text('#!/bin/sh\npython3 -m ais_bench "$@" &\nwait\n')
    wrapper.chmod(0o755)
    process = begin(npu, "infer", AIS_BENCH="./wrapper", STAND_IN_AIS_BENCH="hang")
    while not list(npu.root.glob("results/310P3/bs8/ais_bench.tmp.*/out/batch_*")):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "Top-1" in make(npu, "accuracy").stdout  # the child would hang for ten minutes and keep the device


def test_a_full_disk_is_one_line_and_leaves_nothing_incomplete(npu: Project) -> None:
    shutil.rmtree(npu.root / "models/om/310P3")
    command = f"ulimit -f 1; exec make accuracy CHIP=310P3 BS=8 ROOT=root PYTHON={npu.python}"
    host = ascend_host(npu.tree, "old")
    done = run("bash", "-c", command, cwd=npu.tree, **{**host, "STAND_IN_LOG": ""})
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not list(npu.root.rglob("*.tmp.*"))
    assert "Top-1" in make(npu, "accuracy").stdout


# docs/ascend.md

PAGE = list(documents.transcripts(TREE / "docs/ascend.md"))
# What differs from a ready host in each transcript of the page, in order.
FAULTS: list[dict[str, str]] = [
    {},
    {},
    {"numpy": "2.0.2"},
    {"STAND_IN_ATC": "E16002"},
    {"STAND_IN_NPU_SMI": "mixed"},
]


def test_the_transcripts_of_the_ascend_page_show_what_make_prints(project: Project) -> None:
    project.root.rename(project.tree / "demo")
    toolkit = project.tree / "toolkit"
    toolkit_of(toolkit, "8.5.0-stand-in", ops="8.5.0-stand-in")  # no remark on the Python of this machine
    for shown, fault in zip(PAGE, FAULTS, strict=True):
        words = shown.command.split()
        host = ready_host(project, **fault) if "doctor" in words else ascend_host(project.tree, **fault)
        done = project.make(*words[1:], check=False, **{**host, "SET_ENV": f"{toolkit}/set_env.sh"})
        output = (done.stdout + done.stderr).replace(str(toolkit), "/usr/local/Ascend/cann")
        missing = documents.missing_line(shown, output)
        assert not missing, f"not printed: {missing}\n{output}"
