"""preflight.sh: which goals and variables it rejects, its messages, and the values of an accepted call."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/make/preflight.sh"
NETWORK = "3d_attention_net"
CHIPS = "cpu cpu-f32 cpu-bf16 310 310P1 310P3 910B 910B1 910B2"
PARAMS = """\
# The chips of this test
onnx:
  opset: 11
chips:  # one line per chip
  # a comment
  cpu: engine=onnxruntime published=GPU
  cpu-f32: engine=openvino precision=f32

  cpu-bf16: engine=openvino precision=bf16
  310: engine=ascend soc_version=Ascend310
  "310P1": engine=ascend
  310P3 : engine=ascend
  910B: engine=ascend
  910B1: engine=ascend
  910B2: engine=ascend
verify:
  other: 1
"""
# A stand-in for find_chip.py: appends its arguments to asked.log; prints `answer` on stdout and `reason` on stderr.
FIND_CHIP = """\
import pathlib, sys
with open("asked.log", "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
for name, stream in (("answer", sys.stdout), ("reason", sys.stderr)):
    if pathlib.Path(name).exists():
        stream.write(pathlib.Path(name).read_text())
"""
SETTINGS = "BS CHIP ROOT SOURCE PARAMS ARCHIVE WEIGHTS ONNX OM DEVICE ATC AIS_BENCH SET_ENV MIRROR PYTHON FRESH LAYERS"
SETTINGS += " T N WHY V"
INPUTS = {
    **dict.fromkeys(SETTINGS.split(), ""),
    "BS": "16",
    "ROOT": ".",
    "settings": SETTINGS,
    "from_environment": "",
    "from_command_line": "",
    "restarts": "",
    "pid": "7",
    "unknown_variables": "",
    "reserved": "",
    "makeflags": "",
    "goals": "accuracy",
    "alone": "setup clean clean-results distclean",
    "bare": "help setup clean clean-results distclean demo doctor",
    "any_chip": "bin onnx optimized report bench upstream docs test fuzz check",
    "stages": "bin onnx optimized om om-all infer accuracy accuracy-all compare perf perf-all best verify verify-all"
    " report bench upstream docs test fuzz check audit audit-all",
    "flags": "",
    "network": NETWORK,
    "environment": ".venv/requirements.txt",
}
PROGRAMS = (  # that preflight.sh, clean.sh and the Makefile run
    *("awk", "cat", "cksum", "cmp", "cp", "date", "find", "grep", "head", "ls", "mkdir", "rm", "rmdir", "sed"),
    *("sha256sum", "sort", "stat", "tail", "tr", "uname", "uniq", "wc"),
)
ON_THE_COMMAND_LINE = " (on the command line)"
NPU_SMI_IS_INSTALLED = any(shutil.which("npu-smi", path=f"/usr/local/{name}") for name in ("sbin", "bin"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "scripts").mkdir(parents=True)
    (tree / "params.yaml").write_text(PARAMS)
    (tree / "requirements.txt").write_text("torch==2\n")
    (tree / "scripts/find_chip.py").write_text(FIND_CHIP)
    (tree / "file").write_text("")
    return tree


def run(tree: Path, inputs: dict[str, str], shell: str = "sh") -> tuple[str, str]:
    """(the line on stdout, stderr) of preflight.sh with `inputs`; other values are those of make accuracy."""
    done = subprocess.run(
        [*shell.split(), str(SCRIPT)],
        cwd=tree,
        env={**os.environ, **INPUTS, **inputs},
        capture_output=True,
        text=True,
        errors="surrogateescape",
    )
    assert done.returncode == 0
    assert re.fullmatch(r"[^\x00-\x1f\x7f]+\n", done.stdout), done.stdout
    return done.stdout[:-1], done.stderr


def line_of(tree: Path, shell: str = "sh", **inputs: str) -> str:
    """The line that preflight.sh prints; it must print nothing on stderr."""
    line, errors = run(tree, inputs, shell)
    assert errors == ""
    return line


def refusal(tree: Path, **inputs: str) -> str:
    line = line_of(tree, **inputs)
    assert not line.startswith("ok"), line
    return line


def accepted(tree: Path, **inputs: str) -> dict[str, str]:
    """{name: value} of an accepted call."""
    first, *words = line_of(tree, **inputs).split(" ")
    assert first == "ok", " ".join([first, *words])
    values = dict(word.split("=", 1) for word in words)
    values.pop("begun", None)  # the time, if a tool of CANN is set
    assert list(values) == ["chip", "root", "source", "params", "fallback", "own_onnx", "own_sizes", "inputs"]
    return values


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def install_npu_smi(tree: Path, answer: str = "", reason: str = "") -> str:
    """PATH with an npu-smi and the Python of this test; find_chip.py then prints `answer` and `reason`."""
    smi = write(tree / "bin/npu-smi")
    smi.chmod(0o755)
    (tree / "bin/python3").symlink_to(sys.executable)
    write(tree / "answer", answer)
    write(tree / "reason", reason)
    return f"{tree / 'bin'}:{os.environ['PATH']}"


# Settings: each message says where the value comes from

NOT_A_PATH = "use only letters, digits and . _ / + -, and do not begin with -"
NOT_A_URL = "MIRROR: not an http or https URL, or one with a password or a query; use http://host/folder"
OWNED = "the project's folder or one above it; omit ROOT, or use another folder"
SWITCH = "not a switch; use 1 or 0"

INVALID_SETTINGS: list[tuple[str, str, str, str]] = [  # setting, value, goals, message without the origin
    *[
        ("BS", value, "accuracy", f"BS={value}: not a batch size; use a whole number from 1 to 64")
        for value in ("", "0", "65", "70", "100", "01", "-1", "1.5", "x", "%", "*", "1 2", "1,2")
    ],
    *[
        ("SOURCE", value, "accuracy", f"SOURCE={value}: unknown source; use cifar10 or sample")
        for value in ("imagenet", "cifar10 sample", "Sample", "sample ;touch mark;")
    ],
    *[
        ("DEVICE", value, "accuracy", f"DEVICE={value}: not a device number; use one, or several as 0,1")
        for value in ("cuda", "/dev/davinci7", "npu0", "0 1", "0,", ",0", "0,,1", ",", "-1", "1000", "0,1234", " ")
    ],
    ("DEVICE", "0\n1", "accuracy", "DEVICE=0?1: not a device number; use one, or several as 0,1"),
    *[
        ("ROOT", value, goals, f"ROOT={value}: not usable as a folder; {NOT_A_PATH}")
        for value in ("a b", "a:b", "-x", "a`touch mark`", "a$(touch mark)", "it's", "*", "a%", "~", 'a"b', "a\\b", " ")
        for goals in ("accuracy", "clean", "bench")
    ],
    *[
        ("ROOT", value, goals, f"ROOT={value}: {OWNED}")
        for value in ("..", "../..", "../tree", "scripts/..")
        for goals in ("accuracy", "clean")
    ],
    *[
        ("ROOT", value, goals, f"ROOT={value}: a folder of the project; use another one")
        for value in (
            "scripts",
            "./scripts/",
            "scripts/new",
            "data",
            "results/mine",
            "models",
            ".git/x",
            "../tree/scripts",
        )
        for goals in ("accuracy", "clean")
    ],
    ("ROOT", "/", "clean", "ROOT=/: the root of the file system; use a folder below it"),
    ("ROOT", "a\n", "accuracy", f"ROOT=a?: not usable as a folder; {NOT_A_PATH}"),
    ("ROOT", "\na", "accuracy", f"ROOT=?a: not usable as a folder; {NOT_A_PATH}"),
    ("ROOT", "é b", "accuracy", f"ROOT=é b: not usable as a folder; {NOT_A_PATH}"),
    ("FRESH", "yes", "perf", f"FRESH=yes: {SWITCH}"),
    ("LAYERS", "yes", "compare", f"LAYERS=yes: {SWITCH}"),
    ("LAYERS", "1 1", "compare", f"LAYERS=1 1: {SWITCH}"),
    ("WHY", "2", "accuracy", f"WHY=2: {SWITCH}"),
    *[
        ("MIRROR", value, "accuracy", NOT_A_URL)
        for value in ("127.0.0.1:80", "http://user:secret@host/", "https://host/?token=secret", "ftp://secret")
    ],
    *[
        ("MIRROR", value, "accuracy", NOT_A_URL)
        for value in ("http://", "http://a secret", "http://secret\nx", "secret")
    ],
    *[
        ("PYTHON", value, goals, f"PYTHON={value}: no such program; omit it to use .venv")
        for value in ("/no/python", "no-such-python", "python3 -X dev", "/usr", "./file", "-v", "*")
        for goals in ("accuracy", "demo")
    ],
    *[
        (name, value, "accuracy", f"{name}={value}: no such file or folder; check the path")
        for name in ("ARCHIVE", "WEIGHTS", "ONNX", "OM")
        for value in ("/no/such", "fil?", "it's")
    ],
    ("T", "tests/no.py", "test", "T=tests/no.py: no such file or folder; check the path"),
    *[
        ("N", value, "fuzz", f"N={value}: not a number of inputs; use a whole number from 1 to 999999999")
        for value in ("x", "0", "-1", "1.5", "1 2", "007", "9" * 10, "²", "")
    ],
    *[
        ("PARAMS", value, "accuracy", f"PARAMS={value}: not usable as a file name; {NOT_A_PATH}")
        for value in ("a b", "-x", "a`touch mark`", "*", "a%", "it's")
    ],
    *[
        ("PARAMS", value, goals, f"PARAMS={value}: not a file; copy params.yaml to it and edit the copy")
        for value in ("none.yaml", "scripts", "/no/such")
        for goals in ("accuracy", "bench", "doctor", "report")
    ],
    *[
        ("OM", "file", f"accuracy {goal}", f"OM: a compiled model for one BS; run make {goal} without OM")
        for goal in ("om-all", "accuracy-all", "perf-all", "best")
    ],
    *[
        (name, "file", "bench", "bench: only compares graphs of the checkpoint; omit ONNX and OM")
        for name in ("ONNX", "OM")
    ],
    (
        "ROOT",
        "typo",
        "bench",
        "bench: ROOT=typo contains no inputs; run make accuracy there first, or omit ROOT to use the sample",
    ),
    *[
        ("CHIP", value, "accuracy", f"CHIP={value}: unknown chip; near: {near}; all: {CHIPS}")
        for value, near in {
            "CPU": "cpu cpu-f32 cpu-bf16",
            "bf16": "cpu-bf16",
            "310P": "310P1 310P3",
            "310p3": "310P3",
            "Ascend310P3": "310P3",
            "Ascend 910B": "910B 910B1 910B2",
            "310 310P1": "310 310P1 310P3",
            "310X": "310 310P1 310P3",
            "3": "none",
            "it's": "none",
            "*": "none",
            "x\\n": "none",
            "ascend": "none",
            "other": "none",
            "opset": "none",
        }.items()
    ],
    (
        "CHIP",
        "310",
        "results/cpu/bs4/accuracy.txt",
        "cpu: a file of another chip than CHIP=310; use CHIP=cpu, or omit CHIP",
    ),
    (
        "CHIP",
        "310",
        "accuracy ./models/om/310P3/x.om",
        "310P3: a file of another chip than CHIP=310; use CHIP=310P3, or omit CHIP",
    ),
]


@pytest.mark.parametrize("file", ["results/cpu/bs16/accuracy.txt", f"./models/om/cpu/{NETWORK}_bs16.onnx"])
def test_a_batch_size_for_a_file_of_another_one_is_refused(tree: Path, file: str) -> None:
    message = f"{file}: a file of another batch size than BS=8; use BS=16, or omit BS"
    assert refusal(tree, goals=file, BS="8", from_command_line="BS") == message + ON_THE_COMMAND_LINE
    accepted(tree, goals=file, BS="16", from_command_line="BS")
    accepted(tree, goals=file, BS="8", from_environment="BS")
    assert "FRESH=1 LAYERS=1: not used" in refusal(
        tree, goals=file, FRESH="1", LAYERS="1", from_command_line="FRESH LAYERS"
    )


@pytest.mark.parametrize(("name", "value", "goals", "message"), INVALID_SETTINGS)
def test_a_wrong_value_is_rejected_and_its_origin_is_named(
    tree: Path, name: str, value: str, goals: str, message: str
) -> None:
    inputs = {name: value, "goals": goals}
    assert refusal(tree, **inputs, from_environment="V") == message + ON_THE_COMMAND_LINE
    from_environment = f"V {name} ATC"
    assert refusal(tree, **inputs, from_environment=from_environment) == (
        f"{message} (in your environment: unset {name})"
    )
    assert not (tree / "mark").exists()


def test_settings_that_exclude_each_other_are_named_if_they_come_from_the_environment(tree: Path) -> None:
    message = "OM: a compiled model for one BS; use either OM or ONNX"
    both = {"OM": "file", "ONNX": "file", "goals": "om"}
    assert refusal(tree, **both) == message + ON_THE_COMMAND_LINE
    assert refusal(tree, **both, from_environment="ONNX") == f"{message} (in your environment: unset ONNX)"
    assert refusal(tree, **both, from_environment="ONNX OM") == f"{message} (in your environment: unset OM ONNX)"


ACCEPTED_SETTINGS = [
    *[("BS", str(size)) for size in (1, 9, 10, 59, 60, 64)],
    *[("SOURCE", value) for value in ("", "cifar10", "sample")],
    *[("DEVICE", value) for value in ("", "0", "7", "0,1", "999,0,12")],
    *[("ROOT", value) for value in ("", ".", "./", "demo", "a/b+c_d-e.f/", "/tmp/x", "../x", "été", "数据")],
    *[(name, value) for name in ("FRESH", "LAYERS", "WHY") for value in ("", "0", "1")],
    *[("MIRROR", value) for value in ("http://host", "https://host:80/a/b")],
    *[("PYTHON", value) for value in ("sh", "/bin/sh")],
    *[(name, value) for name in ("ARCHIVE", "WEIGHTS", "ONNX", "OM") for value in ("file", "a folder", "it's $x")],
    *[(name, "any text; not checked here") for name in ("ATC", "AIS_BENCH", "SET_ENV", "V")],
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED_SETTINGS)
def test_a_valid_value_is_accepted(tree: Path, name: str, value: str) -> None:
    (tree / "a folder").mkdir()
    write(tree / "it's $x")
    values = accepted(tree, CHIP="310P3", **{name: value})
    assert values["chip"] == "310P3"
    assert values["root"] == (value or "." if name == "ROOT" else ".")
    assert values["source"] == (value if name == "SOURCE" else "")


def test_a_root_in_another_encoding_is_a_path_like_any_other(tree: Path) -> None:
    assert accepted(tree, ROOT="latin\udce9")["root"] == "latin\udce9"


@pytest.mark.parametrize("spaces", [" ", "\t", " \n "])
def test_spaces_around_chip_and_batch_size_are_removed(tree: Path, spaces: str) -> None:
    assert accepted(tree, CHIP=f"{spaces}310P3{spaces}", BS=f"{spaces}4{spaces}")["chip"] == "310P3"
    assert refusal(tree, BS=f"{spaces}65").startswith("BS=65: ")


def test_the_value_of_mirror_is_never_printed(tree: Path) -> None:
    for value in ("http://user:secret@host/", "https://host/?secret", "secret"):
        for origin in ("", "MIRROR"):
            assert "secret" not in refusal(tree, MIRROR=value, from_environment=origin)


def test_cdpath_does_not_change_which_folder_root_is(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "docs").mkdir()
    (tree / "elsewhere/docs").mkdir(parents=True)
    monkeypatch.setenv("CDPATH", str(tree / "elsewhere"))
    assert "ROOT=docs: a folder of the project" in refusal(tree, ROOT="docs", CHIP="cpu")


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("/no/such", "not a folder that make -n and -q can write to; set TMPDIR to another folder"),
        ("/tmp/a b", "not usable under make -n and -q; use only letters, digits and . _ / + -"),
        ("/tmp;b", "not usable under make -n and -q; use only letters, digits and . _ / + -"),
    ],
)
def test_a_folder_that_cannot_hold_the_copy_of_a_dry_run_is_named(
    tree: Path, folder: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", folder)
    assert refusal(tree, flags="n", CHIP="cpu", environment="") == f"TMPDIR={folder}: {problem}"
    accepted(tree, CHIP="cpu", environment="")


# Restarts of make


@pytest.mark.parametrize("flags", ["", "n"])
def test_only_the_make_that_wrote_inputs_mk_has_restarted(
    tree: Path, flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tree))
    state = tree / (f"make-state-{INPUTS['pid']}" if flags else ".make")
    inputs = {"CHIP": "cpu", "flags": flags, "PYTHON": sys.executable, "environment": ""}
    for stored, restarts, restarted in (("7", "1", True), ("8", "1", False), ("7", "", False), (None, "1", False)):
        shutil.rmtree(state, ignore_errors=True)
        if stored:
            write(state / "restarted", f"{stored}\n")
        assert line_of(tree, **inputs, restarts=restarts).endswith(" restarted=yes") == restarted
    write(tree / ".make/inputs.mk", "x := $(shell touch mark)\n")
    write(state / "restarted", "7\n")
    line = line_of(tree, **inputs, restarts="1")
    assert line.endswith(".make/inputs.mk: damaged since make wrote it; run the same command again") or flags
    assert "inputs=damaged" in line_of(tree, **inputs, restarts="1")  # the file was removed
    assert line_of(tree, **inputs, restarts="1") == line_of(tree, **inputs)


# Goals, variables and flags


def test_an_environment_whose_interpreter_is_gone_is_named(tree: Path) -> None:
    """As after an update of Python: .venv/bin/python is then a link to nothing."""
    write(tree / ".venv/requirements.txt")
    (tree / ".venv/bin").mkdir()
    (tree / ".venv/bin/python").symlink_to("nothing")
    more = {"environment": ".venv/requirements.txt"}
    message = ".venv: its interpreter is missing, or not executable by this account; type: rm -r .venv, then make setup"
    for goal in ("accuracy", "report", "setup", "test"):
        assert refusal(tree, goals=goal, **more) == message
    for goal in ("doctor", "clean", "distclean", "help"):
        assert line_of(tree, goals=goal, **more).startswith("ok")
    assert line_of(tree, PYTHON=sys.executable).startswith("ok")


LIST = "run make help for the list"
MISSING, GIVE = "not a file that make builds below ", "set ROOT= to the folder of data/ and results/"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"goals": "acuracy"}, f"acuracy: unknown target; near: accuracy; {LIST}"),
        ({"goals": "acuracy bin omm"}, f"acuracy omm: unknown target; near: accuracy om; {LIST}"),
        ({"goals": "all"}, f"all: unknown target; near: om-all accuracy-all perf-all verify-all audit-all; {LIST}"),
        ({"goals": "tests"}, f"tests: unknown target; near: test; {LIST}"),
        ({"goals": "inference"}, f"inference: unknown target; near: infer; {LIST}"),
        ({"goals": "Doctor"}, f"Doctor: unknown target; near: doctor; {LIST}"),
        ({"goals": "xy"}, f"xy: unknown target; {LIST}"),
        ({"goals": "ok"}, f"make: ok: unknown target; {LIST}"),
        ({"goals": "ok chip=cpu"}, f"make: ok chip=cpu: unknown target; {LIST}"),
        ({"goals": "*"}, f"*: unknown target; {LIST}"),
        ({"goals": "!"}, f"!: unknown target; {LIST}"),
        ({"goals": "( = )"}, f"( = ): unknown target; {LIST}"),
        ({"goals": "-n"}, f"-n: unknown target; {LIST}"),
        ({"goals": "params.yaml"}, f"params.yaml: unknown target; {LIST}"),
        ({"goals": "database/x"}, f"database/x: {MISSING}ROOT=.; {GIVE}"),
        (
            {"goals": "data/bin/manifest.json", "ROOT": "other"},
            "data/bin/manifest.json: not below ROOT=other; use other/data/bin/manifest.json, or omit ROOT",
        ),
        ({"goals": "xyother/data/a", "ROOT": "other"}, f"xyother/data/a: {MISSING}ROOT=other; {GIVE}"),
        ({"unknown_variables": "bs"}, f"bs: unknown variable; near: BS; {LIST}"),
        ({"unknown_variables": "BATCH_SIZE"}, f"BATCH_SIZE: unknown variable; near: BS; {LIST}"),
        ({"unknown_variables": "bs Chip", "goals": "help"}, f"bs Chip: unknown variable; near: BS CHIP; {LIST}"),
        ({"unknown_variables": "DEVICES WEIGTHS"}, f"DEVICES WEIGTHS: unknown variable; near: DEVICE WEIGHTS; {LIST}"),
        ({"unknown_variables": "ok x"}, f"make: ok x: unknown variable; {LIST}"),
        ({"goals": "clean accuracy"}, "clean accuracy: clean must run alone; run one make command after the other"),
        ({"goals": "om setup"}, "om setup: setup must run alone; run one make command after the other"),
        (
            {"goals": "help distclean"},
            "help distclean: distclean must run alone; run one make command after the other",
        ),
        ({"unknown_variables": "MAKE"}, f"MAKE: unknown variable; {LIST}"),
        ({"reserved": "MAKEFILES"}, "MAKEFILES: changes what make does (in your environment); unset MAKEFILES"),
        ({"makeflags": "k --eval=.IGNORE: --"}, "make --eval: changes the rules; run make without --eval"),
        (
            {"flags": "ke"},
            "make -e: replaces variables of the Makefile by those of your environment; run make without -e",
        ),
        (
            {"goals": "verify report", "flags": "k"},
            "make -k: after a failed gate, report would replace its junit.xml; run make without -k",
        ),
        ({"flags": "nt"}, "make -t: marks stale files as up to date; run make without -t"),
        (
            {"goals": "clean", "flags": "t"},
            "make -t: marks stale files as up to date; run make without -t",
        ),
    ],
)
def test_wrong_goals_variables_and_flags_are_rejected(tree: Path, inputs: dict[str, str], message: str) -> None:
    assert refusal(tree, **inputs) == message


@pytest.mark.parametrize("root", ["", ".", "./", "demo", "demo/", "./demo", "/a/b+c"])
@pytest.mark.parametrize("folder", ["data/bin/image_0.bin", "models/x.onnx", "results/report.html", ".make/inputs.mk"])
def test_a_goal_may_be_a_file_of_root(tree: Path, root: str, folder: str) -> None:
    path = os.path.normpath(f"{root or '.'}/{folder}")
    accepted(tree, ROOT=root, CHIP="cpu", goals=path)
    if not root.startswith("/"):
        accepted(tree, ROOT=root, CHIP="cpu", goals=f"bin ./{path}")


@pytest.mark.parametrize("goals", ["help", "setup", "clean", "distclean", "demo", "doctor", "", "help doctor"])
def test_targets_without_settings_run_with_any_environment(tree: Path, goals: str) -> None:
    wrong = {
        "BS": "0",
        "CHIP": "x y",
        "SOURCE": "sample own_onnx=yes",
        "DEVICE": "cuda",
        "MIRROR": "x",
        "LAYERS": "yes",
        "WHY": "x",
        "ONNX": "/no/such",
        "OM": "/no/such",
    }
    nothing = {"chip": "", "root": "own", "source": "", "params": "params.yaml", "fallback": ""}
    nothing.update(own_onnx="", own_sizes="", inputs="")
    if goals == "demo":
        nothing["fallback"] = "cpu"
    else:
        (tree / "params.yaml").unlink()
    assert accepted(tree, goals=goals, flags="n", ROOT="own", **wrong) == nothing
    assert accepted(tree, goals=goals, ROOT="own", SOURCE="sample") == {**nothing, "source": "sample"}


@pytest.mark.parametrize("flag", ["n", "q", "kn", "qs"])
def test_dry_runs_need_an_up_to_date_environment(tree: Path, flag: str) -> None:
    message = ".venv: missing or outdated, and make -n and -q install nothing; run make setup first"
    assert refusal(tree, flags=flag) == message
    write(tree / ".venv/requirements.txt", "torch==1\n")
    write(tree / ".venv/bin/python").chmod(0o755)
    assert refusal(tree, flags=flag) == message
    accepted(tree, flags="k")
    accepted(tree, flags=flag, environment="", PYTHON="sh")
    shutil.copyfile(tree / "requirements.txt", tree / ".venv/requirements.txt")
    accepted(tree, flags=flag)


# The gate: no verdict of an earlier run is left

OLD = "verdicts of an earlier run"


@pytest.mark.parametrize("root", ["", ".", "root", "./root/", "a/b"])
@pytest.mark.parametrize("goals", ["verify", "verify-all", "accuracy verify"])
def test_the_gate_begins_with_a_junit_that_says_that_nothing_was_judged(tree: Path, root: str, goals: str) -> None:
    junit = tree / root / "results/junit.xml"
    for inputs in ({}, {"flags": "k"}):
        accepted(tree, goals=goals, ROOT=root, **inputs)
        suite = ElementTree.parse(junit).getroot().find("testsuite")
        assert suite is not None
        assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
        assert "not judged: a stage before the gate failed" in junit.read_text()
        junit.write_text(OLD)
    for inputs in (
        *({"flags": flag} for flag in ("i", "t", "ik")),
        {"BS": "99"},
        {"CHIP": "no"},
        {"OM": "/no/such"},
        {"goals": f"{goals} typo"},
        {"goals": f"{goals} clean"},
        {"unknown_variables": "X"},
        {"dollars": "BS", "BS": "$x"},
        {"PARAMS": "no.yaml"},
    ):
        refusal(tree, **{"goals": goals, "ROOT": root, **inputs})
        assert "not judged" in junit.read_text(), inputs
        junit.write_text(OLD)
    assert os.listdir(junit.parent) == ["junit.xml"]


def test_the_junit_of_other_goals_and_of_dry_runs_is_kept(tree: Path) -> None:
    shutil.copytree(tree, tree / "venv")
    junit = write(tree / "results/junit.xml", OLD)
    for goals in ("accuracy", "perf", "help", "clean", "demo"):
        accepted(tree, goals=goals)
    for flags in ("n", "q", "nk"):
        accepted(tree, goals="verify", flags=flags, environment="", PYTHON="sh")
        refusal(tree, goals="verify", flags=flags, BS="99")
    assert junit.read_text() == OLD


def test_a_refused_gate_creates_no_root(tree: Path) -> None:
    for root in ("new", "../new", "-x", "a b", "$x"):
        refusal(tree, goals="verify", ROOT=root, BS="99")
    assert not (tree / "new").exists()
    assert not (tree.parent / "new").exists()


def test_a_junit_that_cannot_be_replaced_is_refused(tree: Path) -> None:
    write(tree / "results", "not a folder")
    message = (
        "results/junit.xml: cannot be replaced, and must not show the verdicts of an earlier run; check its owner "
    )
    assert refusal(tree, goals="verify") == f"{message}and permissions"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_on_a_full_disk_no_junit_of_an_earlier_run_is_left(tree: Path) -> None:
    disk = tree / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mount is not permitted here")
    try:
        junit = write(disk / "results/junit.xml", OLD)
        subprocess.run(["dd", "if=/dev/zero", f"of={disk / 'rest'}", "bs=4k"], capture_output=True)
        accepted(tree, goals="verify", ROOT="disk")
        assert not junit.exists() or "not judged" in junit.read_text()
        assert len(os.listdir(junit.parent)) <= 1
    finally:
        subprocess.run(["umount", disk], check=True)


# Refused before anything is written

ENGINES = {"ascend": 'ENDING = "om"\n', "onnxruntime": 'ENDING = "onnx"\n'}


def test_a_compiled_model_for_a_chip_of_another_kind_is_refused(tree: Path) -> None:
    for engine, text in ENGINES.items():
        write(tree / f"scripts/engines/{engine}/__init__.py", text)
    message = f"OM=file: chip cpu does not run .om files; set CHIP= to a chip that does{ON_THE_COMMAND_LINE}"
    for goals in ("accuracy", "om", "bin", "infer", "verify"):
        assert refusal(tree, goals=goals, OM="file", CHIP="cpu") == message
        accepted(tree, goals=goals, OM="file", CHIP="310P3")
    accepted(tree, goals="upstream", OM="file", from_environment="OM")


@pytest.mark.parametrize("root", [".", "empty", "missing"])
@pytest.mark.parametrize("goals", ["report", "audit", "audit-all"])
def test_a_report_or_audit_without_results_is_refused_and_leaves_nothing(tree: Path, root: str, goals: str) -> None:
    (tree / "empty/results/cpu").mkdir(parents=True)
    before = sorted(tree.rglob("*"))
    assert refusal(tree, goals=goals, CHIP="cpu", ROOT=root).startswith(
        f"{goals}: ROOT={root} has no results; run make accuracy "
    )
    assert sorted(tree.rglob("*")) == before
    accepted(tree, goals=f"accuracy {goals}", ROOT=root)
    write(tree / root / "results/cpu/bs16/perf.json")
    accepted(tree, goals=goals, CHIP="cpu", ROOT=root)


# Settings that no goal uses

UNUSED = [
    ("demo", "BS", "8", "run make accuracy SOURCE=sample ROOT=demo BS=8"),
    ("demo", "ROOT", "x", "run make accuracy SOURCE=sample ROOT=x"),
    *[(goal, "BS", "8", "omit it") for goal in ("setup", "clean", "clean-results", "report", "doctor", "docs", "test")],
    *[(goal, "CHIP", "cpu", "omit it") for goal in ("distclean", "report", "bench", "upstream", "check")],
    *[(goal, "WEIGHTS", "file", "omit it") for goal in ("clean", "report", "setup")],
    *[(goal, "ARCHIVE", "file", "omit it") for goal in ("upstream", "report")],
    *[(goal, "FRESH", "1", "omit it") for goal in ("accuracy", "compare", "accuracy-all")],
    *[(goal, "LAYERS", "1", "omit it") for goal in ("accuracy", "bin report", "perf-all")],
    *[(goal, "T", "file", "omit it") for goal in ("accuracy", "check")],
    *[(goal, "N", "5", "omit it") for goal in ("accuracy", "check", "test", "demo")],
]


@pytest.mark.parametrize(("goals", "name", "value", "remedy"), UNUSED)
def test_a_value_on_the_command_line_that_no_goal_uses_is_rejected(
    tree: Path, goals: str, name: str, value: str, remedy: str
) -> None:
    message = f"{name}={value}: not used by make {goals}; {remedy}"
    assert refusal(tree, goals=goals, from_command_line=f"V {name}", **{name: value}) == message
    write(tree / "results/cpu/bs1/accuracy.json")
    accepted(tree, goals=goals, from_environment=name, **{name: value})  # it may be meant for another program


@pytest.mark.parametrize("goals", ["om-all", "accuracy-all", "perf-all", "best"])
def test_targets_of_all_batch_sizes_take_no_batch_size(tree: Path, goals: str) -> None:
    assert refusal(tree, goals=goals, from_command_line="BS", BS="8") == (
        f"BS=8: not used by make {goals}, which builds every size of batch_sizes; omit it"
    )
    accepted(tree, goals=f"{goals} accuracy", from_command_line="BS", BS="8")


@pytest.mark.parametrize("goals", ["bin", "onnx", "om", "infer", "verify", "data/labels.txt", "report accuracy"])
def test_every_stage_takes_every_input(tree: Path, goals: str) -> None:
    inputs = {
        "BS": "8",
        "CHIP": "310",
        "SOURCE": "cifar10",
        "ARCHIVE": "file",
        "WEIGHTS": "file",
        "PARAMS": "params.yaml",
    }
    accepted(tree, goals=goals, from_command_line=" ".join(inputs), **inputs)


@pytest.mark.parametrize(
    ("goals", "chip", "reason"),
    [
        ("accuracy", "cpu", "chip cpu has no device numbers"),
        ("om", "310", "make om runs on no device"),
        ("bin", "cpu", "make bin runs on no device"),
        ("demo", "", "make demo runs on no device"),
        ("accuracy", "310", ""),
        ("results/310/bs4/perf.txt", "", ""),
        ("doctor", "310", ""),
    ],
)
def test_a_device_without_effect_is_a_note(tree: Path, goals: str, chip: str, reason: str) -> None:
    write(tree / "scripts/engines/ascend/_find.py")
    inputs = {"goals": goals, "CHIP": chip, "DEVICE": "1", "from_command_line": "DEVICE"}
    line, note = run(tree, inputs)
    assert line.startswith("ok ")
    assert note == (f"make: DEVICE=1 has no effect: {reason}\n" if reason else "")
    if goals not in INPUTS["bare"]:
        write(tree / ".make/restarted", "7\n")
        assert run(tree, {**inputs, "restarts": "1"})[1] == ""
    assert run(tree, {**inputs, "from_command_line": ""})[1] == ""


@pytest.mark.parametrize(("value", "number"), [("0,0", "0"), ("1,0,1", "1"), ("0,00", "0"), ("007,7", "7")])
def test_a_device_that_is_named_twice_is_rejected(tree: Path, value: str, number: str) -> None:
    problem = f"DEVICE={value}: device {number} twice; name each device once (on the command line)"
    assert refusal(tree, goals="infer", CHIP="310", DEVICE=value, from_command_line="DEVICE") == problem


@pytest.mark.parametrize(("chip", "device", "numbered"), [("310", "1", True), ("310", "", False), ("cpu", "1", False)])
def test_only_devices_with_numbers_are_compared_with_those_of_a_result(
    tree: Path, chip: str, device: str, numbered: bool
) -> None:
    write(tree / "scripts/engines/ascend/_find.py")
    line, _ = run(tree, {"goals": "perf", "CHIP": chip, "DEVICE": device, "from_command_line": "DEVICE"})
    assert line.startswith("ok ")
    assert (" numbered=yes" in line) == numbered


TOOLS = ("ATC", "AIS_BENCH", "SET_ENV")


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize(
    ("goals", "chip", "reason"),
    [
        ("accuracy", "cpu", "chip cpu does not use it"),
        ("om", "cpu-bf16", "chip cpu-bf16 does not use it"),
        ("bin", "310", "make bin does not use it"),
        ("report", "", "make report does not use it"),
        ("demo", "", "make demo does not use it"),
        ("clean", "", "make clean does not use it"),
        ("doctor", "cpu", ""),
        ("help", "", ""),
    ],
)
def test_a_tool_without_effect_is_a_note(tree: Path, name: str, goals: str, chip: str, reason: str) -> None:
    write(tree / "scripts/engines/ascend/_find.py")
    write(tree / "results/cpu/bs1/accuracy.json")
    inputs = {"goals": goals, "CHIP": chip, name: "/no/such", "from_command_line": name}
    line, note = run(tree, inputs)
    assert line.startswith("ok ")
    assert note == (f"make: {name}=/no/such has no effect: {reason}\n" if reason else "")
    if goals not in INPUTS["bare"]:
        write(tree / ".make/restarted", "7\n")
        assert run(tree, {**inputs, "restarts": "1"})[1] == ""
    assert run(tree, {**inputs, "from_command_line": ""})[1] == ""


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("ATC", "/no/such/atc", "/no/such/atc is not a program; check the path"),
        ("ATC", "A=/x B=1 ./atc --flag", "./atc is not a program; check the path"),
        ("ATC", "./plain", "./plain is not a program; check the path"),
        ("AIS_BENCH", "/no/python3 -m ais_bench", "/no/python3 is not a program; check the path"),
        ("SET_ENV", "/no/set_env.sh", "no such file or folder; check the path"),
        ("SET_ENV", "folder", "contains no set_env.sh; set it to the path of CANN's set_env.sh"),
    ],
)
def test_a_tool_that_does_not_exist_is_rejected_before_anything_runs(
    tree: Path, name: str, value: str, problem: str
) -> None:
    write(tree / "scripts/engines/ascend/_find.py")
    write(tree / "plain")
    write(tree / "folder/file")
    for goals in ("om", "accuracy", "om-all", "perf-all", "results/310/bs4/perf.txt", "models/om/310/x_bs4.om"):
        inputs = {"goals": goals, "CHIP": "310", name: value}
        assert refusal(tree, **inputs, from_command_line=name) == f"{name}={value}: {problem} (on the command line)"
        unset = f"(in your environment: unset {name})"
        assert refusal(tree, **inputs, from_environment=name) == f"{name}={value}: {problem} {unset}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATC", "atc"),
        ("ATC", "OPTION=1 python3 tools/atc.py"),
        ("ATC", "'/path with/a quote'"),
        ("ATC", sys.executable),
        ("AIS_BENCH", "python3 -m ais_bench"),
        ("SET_ENV", "folder"),
        ("SET_ENV", "folder/set_env.sh"),
    ],
)
def test_a_tool_that_may_exist_is_accepted(tree: Path, name: str, value: str) -> None:
    write(tree / "scripts/engines/ascend/_find.py")
    write(tree / "folder/set_env.sh")
    accepted(tree, goals="accuracy", CHIP="310", from_command_line=name, **{name: value})


@pytest.mark.parametrize("missing", PROGRAMS)
def test_a_host_without_a_program_of_make_is_one_line(tree: Path, missing: str) -> None:
    programs = tree / "programs"
    programs.mkdir()
    for name in ("sh", *PROGRAMS):
        if name != missing:
            (programs / name).symlink_to(str(shutil.which(name)))
    for goal in ("help", "accuracy", "clean"):
        line = refusal(tree, goals=goal, PATH=str(programs))
        assert line.startswith(f"{missing}: not on PATH; install coreutils, ")


def test_a_host_without_python3_is_one_line(tree: Path) -> None:
    programs = tree / "programs"
    programs.mkdir()
    for name in ("sh", *PROGRAMS):
        (programs / name).symlink_to(str(shutil.which(name)))
    message = "python3: not on PATH; install Python 3.10 to 3.14 with venv, or add its folder to PATH"
    for goal in ("demo", "setup", "doctor", "accuracy"):
        assert refusal(tree, goals=goal, PATH=str(programs), PYTHON="") == message
    for goal in ("help", "clean"):
        assert line_of(tree, goals=goal, PATH=str(programs), PYTHON="").startswith("ok ")


def test_ais_bench_is_not_used_for_compiling(tree: Path) -> None:
    write(tree / "scripts/engines/ascend/_find.py")
    inputs = {"goals": "om", "CHIP": "310", "AIS_BENCH": "x", "from_command_line": "AIS_BENCH"}
    assert run(tree, inputs)[1] == "make: AIS_BENCH=x has no effect: make om does not use it\n"


@pytest.mark.parametrize("name", ["V", "WHY"])
@pytest.mark.parametrize("goals", ["accuracy", "demo", "help", "clean", "bin report"])
def test_a_switch_on_the_command_line_is_0_or_1(tree: Path, name: str, goals: str) -> None:
    for value in ("", "0", "1"):
        accepted(tree, goals=goals, from_command_line=name, **{name: value})
    wrong = f"{name}=2: {SWITCH} (on the command line)"
    assert refusal(tree, goals=goals, from_command_line=name, **{name: "2"}) == wrong


def test_a_value_of_the_environment_that_no_goal_uses_is_for_other_programs(tree: Path) -> None:
    for name, value in (("T", "/no/such/file"), ("FRESH", "7"), ("LAYERS", "x"), ("N", "x")):
        accepted(tree, goals="accuracy", CHIP="cpu", from_environment=name, **{name: value})
    assert "T=/no/such/file: no such file" in refusal(tree, goals="test", T="/no/such/file", from_environment="T")
    assert SWITCH in refusal(tree, goals="perf", CHIP="cpu", FRESH="7", from_environment="FRESH")


def test_a_root_behind_a_folder_that_does_not_exist_is_refused(tree: Path) -> None:
    for root in ("new/../data/x", "new/../x", "new/.."):
        assert "contains .. behind a folder that does not exist" in refusal(tree, ROOT=root, CHIP="cpu")
    accepted(tree, ROOT="../other", CHIP="cpu")
    for root in (".ci", ".github/x"):
        assert "a folder of the project" in refusal(tree, ROOT=root, CHIP="cpu")


def test_make_setup_does_not_ignore_an_interpreter(tree: Path) -> None:
    line = refusal(tree, goals="setup", PYTHON="python3", from_command_line="PYTHON")
    assert line.startswith("PYTHON=python3: not used by make setup, which creates .venv; omit it")
    accepted(tree, goals="setup", PYTHON=sys.executable, from_environment="PYTHON")
    for origin in ("from_command_line", "from_environment"):
        assert "no such program" in refusal(tree, goals="bin", PYTHON="no-such-python", **{origin: "PYTHON"})


@pytest.mark.parametrize("goals", ["compare", "results/310/bs16/compare.txt"])
def test_an_own_om_is_not_compared_with_a_checkpoint_that_make_would_download(tree: Path, goals: str) -> None:
    own = {"CHIP": "310", "OM": "file"} if goals == "compare" else {}
    if not own:
        write(tree / "models/om/310/bs16.json", OWN_RECORD)
        write(tree / f"models/om/310/{NETWORK}_bs16.om")
    message = "compare: ROOT=. has no checkpoint or graph to compare your .om with; "
    remedy = "set WEIGHTS= to its checkpoint, or run make onnx ONNX= first"
    assert refusal(tree, goals=goals, **own) == message + remedy
    accepted(tree, goals="accuracy", CHIP="310", OM="file")
    accepted(tree, goals=goals, WEIGHTS="file", **own)
    accepted(tree, goals=goals, SOURCE="sample", **own)
    write(tree / "models/checkpoint.pkl")
    accepted(tree, goals=goals, **own)


# PARAMS


def test_root_remembers_its_settings_file(tree: Path) -> None:
    write(tree / "own/other.yaml", PARAMS.replace("  cpu:", "  mine:"))
    write(tree / "root/.make/given/params", "own/other.yaml\n")
    write(tree / "root/results/cpu/bs1/accuracy.json")
    for goals in ("accuracy", "report", "bench"):
        write(tree / "root/models/checkpoint.pkl")
        values = accepted(tree, goals=goals, ROOT="root", CHIP="mine" if goals == "accuracy" else "")
        assert values["params"] == "own/other.yaml"
    assert accepted(tree, goals="doctor", ROOT="root", CHIP="mine")["params"] == "own/other.yaml"
    assert accepted(tree, goals="demo", ROOT="root")["params"] == "params.yaml"
    assert accepted(tree, ROOT="root", CHIP="cpu", PARAMS="params.yaml")["params"] == "params.yaml"
    assert accepted(tree, CHIP="cpu")["params"] == "params.yaml"
    (tree / "own/other.yaml").unlink()
    message = "PARAMS: ROOT=root was built with own/other.yaml, which is not a file now; "
    assert refusal(tree, ROOT="root") == f"{message}set PARAMS= to another file, such as params.yaml"
    for hostile in ("$(touch mark)", "a b", "-x"):
        write(tree / "root/.make/given/params", f"{hostile}\n")
        assert "not usable as a file name" in refusal(tree, ROOT="root")


def test_a_settings_file_that_is_no_longer_known_is_a_note(tree: Path) -> None:
    write(tree / "root/data/bin/manifest.json")
    note = "make: the settings file of ROOT=root is not known, because .make is gone: params.yaml is used"
    assert run(tree, {"ROOT": "root", "CHIP": "cpu"})[1].startswith(note)
    accepted(tree, ROOT="root", CHIP="cpu", PARAMS="params.yaml", from_command_line="PARAMS")
    write(tree / "root/.make/given/params", "params.yaml\n")
    accepted(tree, ROOT="root", CHIP="cpu")


def test_a_large_settings_file_is_not_read(tree: Path) -> None:
    with open(tree / "large.yaml", "wb") as stream:
        stream.truncate(1 << 40)
    assert "larger than 256 KB" in refusal(tree, PARAMS="large.yaml", CHIP="cpu")


# make bench


@pytest.mark.parametrize("root", ["", ".", "./", "demo", "demo/"])
def test_bench_without_inputs_uses_the_sample(tree: Path, root: str) -> None:
    values = accepted(tree, goals="bench", ROOT=root)
    assert (values["root"], values["source"], values["chip"]) == ("demo", "sample", "cpu")


@pytest.mark.parametrize("root", [".", "own"])
@pytest.mark.parametrize("present", ["data/archive.tar.gz", "models/checkpoint.pkl"])
def test_bench_uses_the_inputs_in_root(tree: Path, root: str, present: str) -> None:
    write(tree / root / present)
    values = accepted(tree, goals="bench", ROOT=root, CHIP="310")
    assert (values["root"], values["source"], values["chip"]) == (root, "", "310")


@pytest.mark.parametrize("settings", [{"SOURCE": "cifar10"}, {"ARCHIVE": "file"}, {"WEIGHTS": "file"}])
def test_bench_uses_the_inputs_of_the_command_line(tree: Path, settings: dict[str, str]) -> None:
    values = accepted(tree, goals="bench", ROOT="own", **settings)
    assert (values["root"], values["source"]) == ("own", settings.get("SOURCE", ""))


def test_other_targets_beside_bench_keep_their_root(tree: Path) -> None:
    assert accepted(tree, goals="bench report")["root"] == "."


# The chip


def test_params_without_chips_are_named(tree: Path) -> None:
    message = (
        "params.yaml: contains no block chips: with a line for each chip; write it as in the params.yaml of the project"
    )
    (tree / "params.yaml").write_text(PARAMS.replace("chips:", "chip:"))
    assert refusal(tree) == message
    (tree / "params.yaml").unlink()
    assert refusal(tree, CHIP="cpu") == message


@pytest.mark.parametrize("chip", CHIPS.split())
def test_every_chip_of_params_is_accepted(tree: Path, chip: str) -> None:
    assert accepted(tree, CHIP=chip)["chip"] == chip


@pytest.mark.parametrize(
    ("goals", "root", "chip"),
    [
        ("results/310P3/bs1/accuracy.txt", ".", "310P3"),
        ("./results/310P3/bs1/accuracy.txt", "", "310P3"),
        (f"own/models/om/310P1/{NETWORK}_bs1.om own/results/310P1/bs1/perf.txt", "own/", "310P1"),
        ("accuracy /a/results/cpu-f32/bs1/perf.json", "/a", "cpu-f32"),
        ("./own/results/910B/perf.csv", "./own", "910B"),
        ("results/reference/outputs/manifest.json", ".", "cpu"),
        ("results/*/x", ".", "cpu"),
    ],
)
@pytest.mark.skipif(NPU_SMI_IS_INSTALLED, reason="this machine has an npu-smi")
def test_a_file_determines_its_chip(tree: Path, goals: str, root: str, chip: str) -> None:
    assert accepted(tree, goals=goals, ROOT=root)["chip"] == chip


def test_files_of_two_chips_need_two_calls(tree: Path) -> None:
    assert refusal(tree, goals="results/310/bs1/perf.txt bin results/310P3/bs1/perf.txt") == (
        "310P3: a file of another chip than CHIP=310 of the first file; run make once for each chip"
    )


@pytest.mark.skipif(NPU_SMI_IS_INSTALLED, reason="this machine has an npu-smi")
def test_without_npu_smi_the_first_chip_of_params_is_used(tree: Path) -> None:
    assert accepted(tree)["chip"] == "cpu"
    (tree / "params.yaml").write_text(PARAMS.replace("  cpu:", "  first:"))
    assert accepted(tree)["chip"] == "first"
    assert not (tree / "asked.log").exists()


@pytest.mark.parametrize("goals", ["bin", "onnx optimized", "report help", "bench", "upstream", "test", "check"])
def test_targets_that_need_no_chip_do_not_query_npu_smi(tree: Path, goals: str) -> None:
    path = install_npu_smi(tree, "310P3\n")
    assert accepted(tree, goals=goals, PATH=path)["chip"] == "cpu"
    assert accepted(tree, goals=goals, PATH=path, CHIP="310")["chip"] == "310"
    assert not (tree / "asked.log").exists()


@pytest.mark.parametrize(("root", "note"), [(".", ""), ("own/", "own/"), ("./own", "own/")])
def test_the_chip_that_npu_smi_shows_is_queried_once_and_stored(tree: Path, root: str, note: str) -> None:
    path = install_npu_smi(tree, "310P3\n")
    note_path = f"{note}.make/chip-{os.uname().nodename}"
    assert accepted(tree, ROOT=root, PATH=path)["chip"] == "310P3"
    asked = (tree / "asked.log").read_text()
    assert asked.startswith(f"--chips {CHIPS} --note {note_path} --host boot=")
    host = asked.strip().partition(" --host ")[2]
    assert f" {tree}/bin/npu-smi devices= visible=" in host
    write(tree / note_path, f"910B {host}\n")
    assert accepted(tree, ROOT=root, PATH=path)["chip"] == "910B"
    assert len((tree / "asked.log").read_text().splitlines()) == 1
    for unusable in ("", f"910 {host}", f"310 310P1 {host}\n", f"$(touch mark) {host}\n", "910B\n", "910B boot=1\n"):
        write(tree / note_path, unusable)
        assert run(tree, {"ROOT": root, "PATH": path})[0].startswith("ok chip=310P3 ")
    assert len((tree / "asked.log").read_text().splitlines()) == 7
    for name in ("ASCEND_RT_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES"):
        write(tree / note_path, f"910B {host}\n")
        assert run(tree, {"ROOT": root, "PATH": path, name: "1"})[0].startswith("ok chip=310P3 ")
    write(tree / note_path, f"910B {host}\n")
    os.utime(tree / "bin/npu-smi", (1, 1))
    assert run(tree, {"ROOT": root, "PATH": path})[0].startswith("ok chip=310P3 ")
    (tree / note_path).unlink()
    (tree / note_path).mkdir()
    assert accepted(tree, ROOT=root, PATH=path)["chip"] == "310P3"


def test_a_stored_chip_that_changes_is_a_note(tree: Path) -> None:
    path = install_npu_smi(tree, "310P3\n")
    write(tree / f".make/chip-{os.uname().nodename}", "910B boot=1\n")
    line, errors = run(tree, {"PATH": path})
    assert line.startswith("ok chip=310P3 ")
    assert errors == "make: CHIP=310P3 is used now; at an earlier make npu-smi showed 910B\n"


def test_a_reason_of_find_chip_stays_on_stderr(tree: Path) -> None:
    path = install_npu_smi(tree, "cpu\n", "find_chip.py: no driver: using CHIP=cpu\n")
    line, errors = run(tree, {"PATH": path})
    assert line.startswith("ok chip=cpu ")
    assert errors == "find_chip.py: no driver: using CHIP=cpu\n"


@pytest.mark.parametrize("output", ["", "\n", "315\n", "310 * \n"])
def test_a_chip_that_is_not_found_refers_to_the_reason(tree: Path, output: str) -> None:
    path = install_npu_smi(tree, output, "find_chip.py: npu-smi: shows different chips; give CHIP=\n")
    line, errors = run(tree, {"PATH": path})
    assert line == "CHIP: not found; see the line above"
    assert errors == "find_chip.py: npu-smi: shows different chips; give CHIP=\n"


# The user's own models

OWN_RECORD = '{\n  "origin": "given"\n}\n'


@pytest.mark.parametrize("root", [".", "own/"])
def test_own_models_are_found_by_their_records(tree: Path, root: str) -> None:
    models = tree / root / "models"
    nothing = {"chip": "310P3", "root": root, "source": "", "params": "params.yaml", "fallback": "cpu"}
    nothing.update(own_onnx="", own_sizes="", inputs="")
    write(models / "onnx" / f"{NETWORK}.json", OWN_RECORD)
    write(models / "onnx/other.json", OWN_RECORD)
    for size in (1, 4, 16):
        write(models / f"om/310P3/bs{size}.json", OWN_RECORD)
    write(models / f"om/310P3/{NETWORK}_bs8.om")  # without a record: compiled by make
    write(models / "om/310P3/bs8.json", '{"origin": "made"}')
    write(models / "om/310/bs2.json", OWN_RECORD)  # of another chip
    write(models / f"om/310/{NETWORK}_bs2.om")
    assert accepted(tree, CHIP="310P3", ROOT=root) == nothing  # records without their models
    write(models / "onnx" / f"{NETWORK}.onnx")
    assert accepted(tree, CHIP="310P3", ROOT=root) == {**nothing, "own_onnx": "yes"}
    for size in (4, 16):
        write(models / f"om/310P3/{NETWORK}_bs{size}.om")
    assert accepted(tree, CHIP="310P3", ROOT=root) == {**nothing, "own_onnx": "yes", "own_sizes": "4,16"}
    assert accepted(tree, CHIP="310P3", ROOT=root, goals="clean")["own_sizes"] == ""


@pytest.mark.parametrize(
    ("origin", "suffix"), [("", ON_THE_COMMAND_LINE), ("WEIGHTS ONNX", " (in your environment: unset {name})")]
)
def test_inputs_that_an_own_model_replaces_are_rejected(tree: Path, origin: str, suffix: str) -> None:
    write(tree / "models/onnx" / f"{NETWORK}.json", OWN_RECORD)
    onnx = write(tree / "models/onnx" / f"{NETWORK}.onnx").relative_to(tree)
    inputs = {"CHIP": "310P3", "from_environment": origin}
    assert refusal(tree, WEIGHTS="file", **inputs) == (
        f"WEIGHTS: not used while your own {onnx} exists; remove it first{suffix.format(name='WEIGHTS')}"
    )
    accepted(tree, WEIGHTS="file", ONNX="file", **inputs)  # a new one takes its place
    write(tree / "models/om/310P3/bs16.json", OWN_RECORD)
    om = write(tree / f"models/om/310P3/{NETWORK}_bs16.om").relative_to(tree)
    assert refusal(tree, ONNX="file", **inputs) == (
        f"ONNX: not used while your own {om} exists; remove it first{suffix.format(name='ONNX')}"
    )
    accepted(tree, ONNX="file", BS="1", **inputs)
    accepted(tree, OM="file", **inputs)


# Values are text: they are never run or expanded, and printed without control characters

HOSTILE = [
    "$(touch mark)",
    "`touch mark`",
    "'; touch mark; '",
    '"; touch mark; "',
    "x; touch mark",
    "x\ntouch mark\n",
    "x\r\x1b[31m\x7fy\tz\\n%s",
    "x && touch mark || touch mark",
    "*",
    "par?ms.yaml",
    "${BS}$((1+1))",
    "-x",
    "--help",
    "!",
    "(",
    "ok chip=cpu root=.",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("goals", ["accuracy", "help", "results/310/bs1/accuracy.txt"])
def test_no_value_is_ever_run_or_expanded(tree: Path, value: str, goals: str) -> None:
    for name in [*SETTINGS.split(), "from_environment", "unknown_variables", "dollars", "flags", "goals"]:
        before = sorted(tree.rglob("*"))
        line = line_of(tree, **{"goals": goals, name: value})
        assert sorted(tree.rglob("*")) == before, name
        assert "params.yaml" not in line.replace(" params=params.yaml ", " "), name
        if line.startswith("ok"):
            assert line.split(" ")[1] in ("chip=", "chip=cpu", "chip=310"), name
            assert line.count(" ") == 8, name


@pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox sh"])
def test_every_posix_shell_prints_the_same_lines(tree: Path, shell: str) -> None:
    if not shutil.which(shell.split()[0]):
        pytest.skip(f"{shell.split()[0]} is not installed")
    for name, value, goals, message in INVALID_SETTINGS:
        assert line_of(tree, shell, goals=goals, **{name: value}) == message + ON_THE_COMMAND_LINE
    assert (
        line_of(tree, shell, CHIP="310", ROOT="été")
        == "ok chip=310 root=été source= params=params.yaml fallback=cpu own_onnx= own_sizes= inputs="
    )


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_no_fault() -> None:
    done = subprocess.run(["shellcheck", "-s", "sh", str(SCRIPT)], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0
