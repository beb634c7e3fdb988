"""A command runs in a known environment: variables, PYTHONPATH and stale bytecode do not change results."""

from __future__ import annotations

from _support import artifact, environment
from _support.artifact import read_record

import json
import os
import py_compile
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conftest
from conftest import SCRIPTS, Project, refused, run, script
from engines import probe
from engines.openvino.cpu import instructions

# Variables that change, or may change, what the libraries compute, or how.
VARIABLES = {
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_DEFAULT_FPMATH_MODE": "BF16",
    "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
    "DNNL_MAX_CPU_ISA": "SSE41",
    "ONEDNN_CPU_ISA_HINTS": "PREFER_YMM",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
    "ONEDNN_VERBOSE": "1",
    "DNNL_VERBOSE": "1",
    "ONEDNN_JIT_DUMP": "0",
    "OMP_NUM_THREADS": "3",
    "OMP_DYNAMIC": "true",
    "OMP_PROC_BIND": "close",
    "OMP_SCHEDULE": "dynamic,1",
    "OMP_WAIT_POLICY": "passive",
    "KMP_AFFINITY": "compact",
    "KMP_BLOCKTIME": "0",
    "KMP_DETERMINISTIC_REDUCTION": "0",
    "GOMP_CPU_AFFINITY": "0",
    "GOMP_SPINCOUNT": "0",
    "MKL_NUM_THREADS": "3",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "MKL_DEBUG_CPU_TYPE": "5",
    "OPENBLAS_NUM_THREADS": "3",
    "OPENBLAS_CORETYPE": "Prescott",
    "ORT_DISABLE_ALL": "1",
    "ONNXRUNTIME_LOG_SEVERITY": "0",
    "OPENVINO_LOG_LEVEL": "5",
    "OV_CPU_CAPS": "avx2",
    "TBB_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    "PYTORCH_JIT": "0",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 AVX512F",
    "NUMEXPR_NUM_THREADS": "1",
}
AS_COMMAND = """
import sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
from _support import cli
"""  # a beginning of a program that is treated as a command of scripts/


def as_command(body: str, name: str, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-c", AS_COMMAND + body, SCRIPTS / name, *arguments, **more)


@pytest.mark.parametrize("name", VARIABLES)
def test_the_list_has_every_variable(name: str) -> None:
    assert name.startswith(environment.LIBRARIES) and name not in environment.HARMLESS


def test_libraries_do_not_see_the_variables(tmp_path: Path) -> None:
    body = "import ctypes, os\nget = ctypes.CDLL(None).getenv\nget.restype = ctypes.c_char_p\n"
    body += "print([name for name in sys.argv[1:] if name in os.environ or get(name.encode())])"
    harmless = dict.fromkeys(environment.HARMLESS, "1")
    done = as_command(body, "infer.py", *VARIABLES, *harmless, "PATH", **VARIABLES, **harmless)
    assert done.stdout.strip() == str([*harmless, "PATH"])


def models(optimized: Path, folder: Path) -> list[tuple[str, Path]]:
    """Compiled models, for every engine and precision that runs on this CPU, with the names of their records."""
    chips = [("onnxruntime", ""), *(("openvino", f"precision={p}") for p in ("f32", "bf16") if instructions(p))]
    made = []
    for engine, options in chips:
        out = folder / f"{engine}{options[10:]}" / "m_bs8.onnx"
        flags = ("--onnx", optimized, "--chip", "x", "--engine", engine, f"--options={options}", "--batch-size", 8)
        assert script("compile_model", *flags, "--out", out).returncode == 0
        made.append((f"{engine} {options}", out))
    return made


def infer(model: Path, bins: Path, out: Path, **more: str) -> dict[str, Any]:
    flags = ("--record", model.with_name("bs8.json"), "--bins", bins, "--format", "bin", "--out", out / "manifest.json")
    done = script("infer", "--model", model, *flags, **more)
    assert done.returncode == 0, done.stderr
    return read_record(out / "manifest.json")


def test_outputs_and_records_are_the_same_with_every_variable_set(optimized: Path, bins: Path, tmp_path: Path) -> None:
    for name, model in models(optimized, tmp_path):
        plain, planted = (
            infer(model, bins, tmp_path / name / "a"),
            infer(model, bins, tmp_path / name / "b", **VARIABLES),
        )
        assert plain == planted, name


# With avx512_bf16 alone oneDNN computes in float32, whatever that variable says (an AMD EPYC).
@pytest.mark.skipif(instructions("bf16") != "amx_bf16", reason="the CPU has no AMX for bfloat16")
def test_a_runtime_that_computes_in_less_than_float32_is_refused(optimized: Path, bins: Path, tmp_path: Path) -> None:
    model = models(optimized, tmp_path)[1][1]
    flags = ("--record", model.with_name("bs8.json"), "--bins", bins, "--format", "bin", "--out", tmp_path / "o/m.json")
    body = "import os\nos.environ['ONEDNN_DEFAULT_FPMATH_MODE'] = 'BF16'\nimport infer\ninfer.main()"
    done = as_command(body, "infer.py", "--model", model, *flags)
    refused(done, f"{model}: OpenVINO computes float32 convolutions in bfloat16", "precision=f32 is not met; unset")
    assert not (tmp_path / "o").exists()


def rounded(values: Any, bits: int) -> Any:
    """float32 values with `bits` digits after the point, as near as the type with so few digits has them."""
    scale = np.float32(2.0 ** (23 - bits))
    return ((values.view(np.uint32) / scale).round() * scale).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(("bits", "precision"), [(23, "float32"), (10, "tf32 or float16"), (7, "bfloat16")])
def test_the_probe_names_the_precision(bits: int, precision: str) -> None:
    def convolve(image: Any) -> Any:
        assert image.shape == probe.IMAGE and image.dtype == np.float32
        return np.full((1, 64, 6, 6), rounded(image, bits)[0, :, :3, :3].sum(dtype=np.float32))

    assert probe.precision_of(convolve) == precision


def planted_modules(folder: Path, mark: Path) -> Path:
    """A folder with modules that must not be imported: they write a mark."""
    folder.mkdir()
    for name in ("sitecustomize", "usercustomize", "engines", "yaml"):
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write({name!r})\n")
    return folder


def test_make_does_not_take_modules_from_pythonpath_and_runs_with_a_safe_path(project: Project, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    folder = planted_modules(tmp_path / "planted", mark)
    project.set("infer.format", "bin")
    done = project.make("accuracy", PYTHONPATH=str(folder), PYTHONSAFEPATH="1", PYTHONSTARTUP=str(folder / "yaml.py"))
    assert "Source: built-in sample" in done.stdout
    assert not mark.exists()
    assert "at_start" not in read_record(project.root / "results/null/bs16/accuracy.json")["run"]


def test_the_record_of_each_file_names_what_acted_at_the_start(project: Project) -> None:
    before = {path: path.read_bytes() for path in project.root.rglob("*.json")}
    libraries = {"LD_LIBRARY_PATH": "/no/such/folder"}
    project.set("sample.seed", "7")
    project.make("accuracy", **libraries)
    changed = [path for path in project.root.rglob("*.json") if path.read_bytes() != before.get(path)]
    records = {str(path.relative_to(project.root)): read_record(path) for path in changed if path.stem != "statement"}
    stages = ["data/archive.json", "data/bin/manifest.json", "results/null/bs16/accuracy.json"]
    assert {*stages, "results/null/bs16/outputs/manifest.json"} <= {*records}
    for name, record in records.items():
        assert record.get("at_start") == libraries, name


def test_code_in_the_users_folder_of_packages_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, path = tmp_path / "code.pth", tmp_path / "path.pth"
    code.write_text("/a/folder\nimport sys\n")
    path.write_text("/a/folder\nimported/packages\n")
    monkeypatch.setattr("site.ENABLE_USER_SITE", True)
    monkeypatch.setattr("site.getusersitepackages", lambda: str(tmp_path))
    assert environment.at_start()["user_site"] == {str(code): artifact.digest(code)}
    monkeypatch.setattr("site.ENABLE_USER_SITE", False)
    assert "user_site" not in environment.at_start()


def test_customizations_and_what_acts_at_start_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("pass\n")
    body = "import json\nfrom _support.run_facts import run_facts\nprint(json.dumps(run_facts()))"
    tunables = {"LD_AUDIT": "/no/such.so", "GLIBC_TUNABLES": "glibc.malloc.check=0"}
    facts = json.loads(as_command(body, "infer.py", PYTHONPATH=str(tmp_path), **tunables).stdout)
    path = tmp_path / "sitecustomize.py"
    expected = {"sitecustomize": {"path": str(path), "sha256": artifact.digest(path)}}
    assert facts["at_start"] == {**tunables, **expected}
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["python"] == sys.version.split()[0]
    assert facts["cpu"]


def test_the_machine_of_the_inference_is_in_the_record_of_the_accuracy(built: Project) -> None:
    facts = read_record(built.root / "results/null/bs16/accuracy.json")["run"]
    assert facts["inference"]["python"] == facts["python"] == sys.version.split()[0]
    assert facts["inference"]["packages"]["numpy"] == np.__version__
    assert "host_name" not in str(read_record(built.root / "results/null/bs16/accuracy.json")["key"])


def test_stale_bytecode_is_not_run(project: Project) -> None:
    source = project.tree / "scripts/engines/null/run.py"
    times = source.stat()
    py_compile.compile(str(source))  # of the old source; then another one of the same size and time
    source.write_text(source.read_text().replace('"stand-in"', '"stand-up"'))
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    project.make("infer")
    assert read_record(project.root / "results/null/bs16/outputs/manifest.json")["provenance"]["runtime"] == "stand-up"
    assert not [*project.tree.glob("scripts/formats/__pycache__")]  # none is written either


def test_a_script_that_changes_while_its_command_waits_is_not_run_under_the_old_digest(project: Project) -> None:
    root, source = project.root, project.tree / "scripts/engines/null/run.py"
    model = root / "models/om/null/3d_attention_net_bs16.null"
    words = ["--model", model, "--record", model.with_name("bs16.json"), "--bins", root / "data/bin/manifest.json"]
    words += ["--format", "bin", "--out", root / "other/outputs/manifest.json"]
    command = [sys.executable, project.tree / "scripts/infer.py", *words]
    more = conftest.environment(**project.locks)
    with artifact.locked(model.parent):
        done = subprocess.Popen([str(word) for word in command], stderr=-1, text=True, env=more)
        assert done.stderr
        assert any("waiting" in line for line in done.stderr)
        source.write_text(source.read_text().replace('"stand-in"', '"stand-up"'))
    error = done.communicate(timeout=60)[1]
    assert f"{source}: changed while this command waited or ran; run the same command again" in error
    assert done.returncode == 1
    assert not (root / "other/outputs").exists()


def test_doctor_names_the_variables_that_are_not_used(fresh: Project) -> None:
    shown = fresh.make("doctor", check=False, CHIP="", OMP_NUM_THREADS="4", ONEDNN_DEFAULT_FPMATH_MODE="BF16").stdout
    assert "ONEDNN_DEFAULT_FPMATH_MODE" in shown and "OMP_NUM_THREADS" in shown and "not used, because" in shown
