"""A stand-in for ais_bench, both generations (docs/ascend-tools.md#ais-bench-arguments and the sections after it).

Folders, files, summaries, messages and exit codes are those of the vendor's front ends with the same aclruntime. It
computes by the stand-in aclruntime and supports only the run modes array and tensor.

STAND_IN_AIS_BENCH plants a fault: missing, short, nan, stale, extra (in one output), nothing, no-summary, truncated,
wrong-count (in the summary), crash, hang, slow (midway), device1-dies, duplicate, race (several devices), and
those of aclruntime: load, memory, slice and numpy.
"""

from __future__ import annotations

import argparse
import copy
import importlib.metadata
import io
import json
import math
import multiprocessing
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import notes
import numpy as np

FAULT = os.environ.get("STAND_IN_AIS_BENCH", "")
PURE, FILLER = "pure_infer_data", "padding_infer_fake_file"
FAQ = '"gitee repo: Ascend/tools, path:tools/ais_bench-workload/tool/ais_bench/README.md, chapter: FAQ/security_error/'
Args = argparse.Namespace


def say(text: str, level: str = "INFO") -> None:
    print(f"[{level}] {text}", flush=True)


def stop(text: str, error: str = "") -> Exception:
    """Logs an error; returns the exception, which mostly has no text."""
    say(text, "ERROR")
    return RuntimeError(error) if error else RuntimeError()


# Checks of paths, only in the newer generation: docs/ascend-tools.md#ais-bench-paths


def legal(path: str, write: bool) -> bool:
    """Whether the newer generation accepts a path for reading or for writing; logs the reason if not."""
    whole = os.path.abspath(path)
    if len(whole) > 4096 or any(len(part) > 255 for part in whole.split("/")):
        why = "file total path's length out of range (4096), please check the file(or directory) path"
        return refused(why, "path_length_overflow")
    if re.search(r"[^_A-Za-z0-9/.-]", whole):
        why = "path contains illegal char, legal chars include A-Z a-z 0-9 _ - / ."
        return refused(why, "path_contain_illegal_char")
    if not os.path.exists(whole):
        if not write:
            say(f"path: {whole} not exist, please check if file or dir is exist", "ERROR")
        return write
    if os.path.islink(whole):
        why = f"path :{whole} is a soft link, not supported, please import file(or directory) directly"
        return refused(why, "soft_link")
    seen = os.stat(whole)
    if seen.st_uid != os.geteuid() and seen.st_gid not in os.getgroups():
        why = f"current user isn't path:{whole}'s owner or ownergroup, make sure current user belong to"
        return refused(f"{why} file(or directory)'s owner or ownergroup", "owner_or_ownergroup")
    if seen.st_mode & (0o027 if write else 0o022):
        why = f"The file {whole} is group writable, or is others writable, as {'export' if write else 'import'}"
        limit = "0o750(rwxr-x---)" if write else "0o755(rwxr-xr-x)"
        return refused(f"{why} file(or directory), permission should not be over {limit}", "path_permission")
    if not os.access(whole, os.W_OK if write else os.R_OK) or not (write or seen.st_mode & 0o400):
        why = f"Current user doesn't have {'write' if write else 'read'} permission to the file {whole}"
        return refused(f"{why}, as {'export' if write else 'import'} file(or directory)", "path_permission")
    return True


def refused(why: str, page: str) -> bool:
    say(why, "ERROR")
    say(f'visit \033[1;32m {FAQ}{page}_error_log_solution" \033[0m for detailed solution', "\033[1;32mSOLUTION\033[0m")
    return False


def path_type(what: str, write: bool) -> Callable[[str], str]:
    def check(value: str) -> str:
        if write and os.path.exists(value) and not os.path.isdir(value):
            raise argparse.ArgumentTypeError("output path is not a directory")
        for path in [value] if write else value.split(","):
            if value and not legal(path, write):
                raise argparse.ArgumentTypeError(f"{what} path:{path} is illegal. Please check.")
            if what == "om" and (os.path.isdir(path) or not path.endswith(".om")):
                say(f"path:{os.path.abspath(path)}, file type not in ['om']", "ERROR")
                raise argparse.ArgumentTypeError(f"om path:{path} is illegal. Please check.")
        return value

    return check


def written(path: Path, data: bytes, generation: str) -> None:
    """Writes a file of this run. The newer generation first removes an existing one of this user; its mode is 0640."""
    if generation == "new" and path.exists():
        if path.stat().st_uid != os.geteuid():
            why = "The file owner is inconsistent with the current process user and is not allowed to write"
            raise PermissionError(f"{why}. {path}")
        path.unlink()
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640 if generation == "new" else 0o666)
    with os.fdopen(number, "wb") as stream:
        stream.write(data)


# Arguments: docs/ascend-tools.md#ais-bench-arguments


def whole_number(least: int, most: int, strict: bool) -> Callable[[str], int]:
    def check(text: str) -> int:
        if strict and not text.isdigit():
            raise argparse.ArgumentTypeError(f"{text} contains special characters other than numbers.")
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is an invalid value")
        return int(text)

    return check


def truth(text: str) -> bool:
    if text.lower() in ("yes", "true", "t", "y", "1", "no", "false", "f", "n", "0"):
        return text.lower() in ("yes", "true", "t", "y", "1")
    raise argparse.ArgumentTypeError("Boolean value expected true, 1, false, 0 with case insensitive.")


def device_type(text: str) -> int | list[int]:
    numbers = [int(word) for word in text.split(",")]
    if not all(0 <= number <= 255 for number in numbers):
        raise argparse.ArgumentTypeError(f"device:{text} is invalid. valid value range is [0, 255]")
    return numbers if "," in text else numbers[0]


def arguments(generation: str) -> Args:
    new, most = generation == "new", 2**31 - 1
    parser = argparse.ArgumentParser(description="a stand-in")
    paths = {"model": ("om", False), "input": ("input", False), "output": ("output", True)}
    for name, (what, write) in paths.items():
        kind = path_type(what, write) if new else str
        parser.add_argument(f"--{name}", f"-{name[0]}", type=kind, required=name == "model")
    parser.add_argument("--output_dirname", type=path_type("output", True) if new else str)
    parser.add_argument("--outfmt", default="BIN", choices=["NPY", "BIN", "TXT"])
    parser.add_argument("--loop", "-l", type=whole_number(1, 100000 if new else most, new), default=1)
    parser.add_argument("--device", "-d", type=device_type, default=0)
    parser.add_argument("--batchsize", type=whole_number(1, most, new))
    parser.add_argument("--warmup_count", type=whole_number(0, most, new), default=1)
    parser.add_argument("--output_batchsize_axis", type=whole_number(0, most, new), default=0)
    parser.add_argument("--pure_data_type", default="zero", choices=["zero", "random"])
    parser.add_argument("--run_mode", default="array", choices=["array", "files", "tensor", "full"])
    parser.add_argument("--debug", type=truth, default=False)
    parser.add_argument("--display_all_summary", type=truth, default=False)
    parser.add_argument("--dymBatch", type=whole_number(int(new), most, new), default=0)
    others = ["profiler", "dump", "auto_set_dymshape_mode", "auto_set_dymdims_mode"]
    words = ["dymHW", "dymDims", "dymShape", "dymShape_range", "outputSize", "acl_json_path"]
    if new:
        parser.add_argument("--divide_input", type=truth, default=False, help="divide the inputs among the devices")
        parser.add_argument("--profiler_rename", type=truth, default=True)
        others += ["energy_consumption", "perf", "pipeline", "dump_npy"]
        words += ["aipp_config", "npu_id", "backend", "threads"]
    for name in others:
        parser.add_argument(f"--{name}", type=truth, default=False)
    for name in words:
        parser.add_argument(f"--{name}")
    args = parser.parse_args()
    for name, limit in {"warmup_count": 10000, "batchsize": 4096, "dymBatch": 4096, "output_batchsize_axis": 8}.items():
        if new and (getattr(args, name) or 0) > limit:
            raise ValueError(f"--{name}: {getattr(args, name)} is over {limit}")
    unsupported = [name for name in others + words if getattr(args, name)]
    if unsupported or args.run_mode not in ("array", "tensor"):
        raise NotImplementedError(
            f"this stand-in does not support --{(unsupported or ['run_mode ' + args.run_mode])[0]}"
        )
    if new and (args.output_dirname or "").startswith("/"):
        raise ValueError("--output_dirname do not support abs path!")
    if args.output is None and args.output_dirname is not None:
        text = "parameter --output_dirname cann't be used alone. Please use it together with the parameter --output!\n"
        raise stop(text, "error bad parameters --output_dirname")
    args.generation = generation
    return args


# Inputs: docs/ascend-tools.md#ais-bench-arguments


def folder_files(folder: str, generation: str) -> list[str]:
    names = os.listdir(folder)
    if generation == "new":
        for path in (os.path.join(folder, name) for name in names):  # also of folders and other files
            if not legal(path, False):
                raise RuntimeError(f"input data:{path} is illegal")
        names = [name for name in names if not os.path.isdir(os.path.join(folder, name))]
    files = [os.path.join(folder, name) for name in names if name.endswith((".npy", ".NPY", ".bin", ".BIN"))]
    if not files:
        raise stop(f"{folder} of input args not find valid file,valid file format:[*.npy *.NPY *.bin *.BIN]")
    return sorted(sorted(files), key=natural)


def natural(path: str) -> list[Any]:
    return [int(word) if word.isdigit() else word.lower() for word in re.split("([0-9]+)", path)]


def all_files(inputs: str, generation: str) -> list[str]:
    paths = inputs.split(",")
    if os.path.isfile(paths[0]):
        for i, path in enumerate(paths):
            if not os.path.isfile(path):
                raise stop(f"Invalid input args.--input:{paths} input[{i}]:{path} {path} not exist")
        return paths
    if not os.path.isdir(paths[0]):
        raise stop(f"Invalid args. {paths[0]}  of --input is invalid")
    if len(paths) != 1:
        raise stop(f"Invalid args. args input dir num:{len(paths)} not equal to model inputs num:1")
    return folder_files(paths[0], generation)


def content(path: str) -> Any:
    return np.load(path) if path.lower().endswith(".npy") else np.frombuffer(Path(path).read_bytes(), np.int8)


def batches_of(args: Args, tensor: int) -> list[list[str]]:
    if args.input is None:
        return [[PURE]]
    files = all_files(args.input, args.generation)
    size = content(files[0]).nbytes
    if not size or tensor % size:
        raise stop(f"arg0 tensorsize: {tensor} filesize: {size} not match")
    each = tensor // size
    batches = [files[i : i + each] for i in range(0, len(files), each)]
    say(f"get filesperbatch files0 size:{size} tensor0size:{tensor} filesperbatch:{each} runcount:{len(batches)}")
    return [batch + [FILLER] * (each - len(batch)) for batch in batches]


def feed(args: Args, batch: list[str], tensor: int) -> Any:
    if batch == [PURE]:
        return np.frombuffer(os.urandom(tensor) if args.pure_data_type == "random" else bytes(tensor), np.uint8)
    parts = [content(batch[0] if file == FILLER else file) for file in batch]
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if len(parts) > 1 and joined.nbytes != tensor:
        raise stop(f"ndata size:{joined.nbytes} not match {tensor}")
    return joined


# Outputs and summary: docs/ascend-tools.md#ais-bench-outputs, docs/ascend-tools.md#ais-bench-summary


def save(args: Args, folder: Path, batch: list[str], number: int, logits: Any, slots: dict[str, Any]) -> None:
    axis, each = args.output_batchsize_axis, len(batch)
    if axis >= logits.ndim:
        sizes = f"i:0 ndata.shape:{logits.shape} len:{logits.ndim}"
        raise stop(f"error {sizes} <= output_batchsize_axis:{axis}  is invalid")
    if logits.shape[axis] % each:
        sizes = f"files_count_perbatch:{each} ndata.shape{axis}:{logits.shape[axis]}"
        raise stop(f"save out files error array shape:{logits.shape} filesinfo:{[batch]} {sizes}")
    for i, (file, rows) in enumerate(zip(batch, np.split(logits, each, axis))):
        if file == FILLER:
            continue
        path = folder / f"{os.path.basename(file).split('.')[0]}_0.{args.outfmt.lower()}"
        slots[str(number * each + i)] = {"infiles": [file], "outfiles": [os.path.join(args.folder, path.name)]}
        if (number, i) == (0, 0) and FAULT in ("nan", "short") and args.index == 0:
            rows = (
                np.where(np.arange(rows.size).reshape(rows.shape) == 3, np.nan, rows) if FAULT == "nan" else rows[:, :9]
            )
        if args.outfmt == "TXT":
            lines = rows.astype(np.float32).reshape(-1, rows.shape[-1])
            data = "".join("".join(f"{value:f} " for value in line) + "\n" for line in lines).encode()
        elif args.outfmt == "NPY":
            stream = io.BytesIO()
            np.save(stream, rows.astype(np.float32))
            data = stream.getvalue()
        else:
            data = rows.astype(np.float32).tobytes()
        written(path, data, args.generation)


def bar(batches: list[list[str]], title: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the batches and prints a bar like tqdm: on stdout, each state after a \\r, at most ten in a second."""
    begin, shown, done, count = time.monotonic(), 0.0, 0, len(batches)

    def show() -> None:
        took = time.monotonic() - begin
        speed = f"{done / took:.2f}it/s" if done else "?it/s"
        filled = ("█" * (10 * done // count)).ljust(10)
        state = f"{100 * done // count:3d}%|{filled}| {done}/{count} [00:{took:02.0f}<00:00, {speed}]"
        print(f"\r{title}: {state}", end="", flush=True)

    show()
    try:
        for number, batch in enumerate(batches):
            yield number, batch
            done = number + 1
            if time.monotonic() - shown > 0.1:
                shown = time.monotonic()
                show()
    finally:
        show()
        print(flush=True)


def figures(times: list[float]) -> dict[str, float]:
    if not times:
        return {**dict.fromkeys(("min", "max", "mean", "median", "percentile(99%)"), 0.0), "count": 0}
    values = {"min": np.min(times), "max": np.max(times), "mean": np.mean(times), "median": np.median(times)}
    values["percentile(99%)"] = np.percentile(times, 99)
    return {**{name: float(n) for name, n in values.items()}, "count": len(times)}


def load(args: Args) -> Any:
    import aclruntime

    options = aclruntime.session_options()
    options.loop = args.loop
    session = aclruntime.InferenceSession(args.model, args.device, options)
    if args.dymBatch:
        session.set_dynamic_batchsize(args.dymBatch)
    if args.batchsize is None:
        args.batchsize = session.get_inputs()[0].shape[0]
        say(f"try get model batchsize:{args.batchsize}")
    return session


def run_batch(session: Any, data: Any) -> Any:
    import aclruntime

    (tensor,) = session.run(["class"], [aclruntime.BaseTensor(data.__array_interface__["data"][0], data.nbytes)])
    tensor.to_host()
    return np.array(tensor)


def make_folder(args: Args) -> Path | None:
    if args.output is None:
        return None
    name = args.output_dirname or time.strftime("%Y_%m_%d-%H_%M_%S")
    args.folder = os.path.join(args.output, name, *args.subfolder)
    folder = Path(args.folder)
    if args.generation == "old":
        folder.mkdir(0o755, parents=True, exist_ok=True)
    elif not folder.exists():
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        time.sleep(0.5 if FAULT == "race" else 0)
        for path in reversed(missing):
            try:
                path.mkdir(0o750)
            except OSError:  # also if the process of another device made it first
                raise RuntimeError(f"can not make dir: {path.absolute()}") from None
    elif not legal(args.folder, False):  # checked as for reading, so 0755 is accepted
        raise ValueError(f"The path:{args.folder} is illegal. Please check the error log for more detail.")
    say(f"output path:{args.folder}")
    return folder


def infer(args: Args, index: int = 0, queue: Any = None) -> None:
    """Runs one process on one device."""
    import aclruntime

    args.index = index
    if queue:
        say(f"subprocess_{index} main run")
    session = load(args)
    tensor = session.get_inputs()[0].realsize
    folder = make_folder(args)
    batches = batches_of(args, tensor)
    session.options().loop = 1
    for _ in range(args.warmup_count):
        run_batch(session, feed(args, batches[0], tensor))
    session.options().loop = args.loop
    session.reset_sumaryinfo()
    aclruntime.MemorySummary().reset()
    say(f"warm up {args.warmup_count} done")
    if queue:
        together(args, index, queue)
    begin = time.time()
    slots: dict[str, Any] = {}
    for number, batch in bar(batches, f"Inference {args.run_mode} Processing"):
        logits = run_batch(session, feed(args, batch, tensor))
        if folder:
            save(args, folder, batch, number, logits, slots)
        if number == len(batches) // 2:
            plant_fault(index)
    times = session.sumary().exec_time_list
    times = times if args.generation == "old" else [end - start for start, end in times]
    summarize(args, folder, slots, times)
    if queue:
        queue.put([index, args.throughput, begin, time.time()])
    if args.generation == "new":
        session.free_resource()
        aclruntime.InferenceSession.finalize()
    else:
        session.finalize()


def plant_fault(index: int) -> None:
    if FAULT == "crash":
        os.abort()
    if FAULT == "hang":
        time.sleep(600)
    if FAULT == "slow":
        time.sleep(3)
    if FAULT == "device1-dies" and index == 1:
        raise RuntimeError("device 1 has died (planted)")


def summarize(args: Args, folder: Path | None, slots: dict[str, Any], times: list[float]) -> None:
    import aclruntime

    summary: dict[str, Any] = {"filesinfo": slots, "args": sys.argv, "NPU_compute_time": figures(times)}
    summary["H2D_latency"] = figures(aclruntime.MemorySummary.H2D_time_list)
    summary["D2H_latency"] = figures(aclruntime.MemorySummary.D2H_time_list)
    mean = summary["NPU_compute_time"]["mean"]
    args.throughput = 1000 * args.batchsize / mean if mean else 0
    summary.update(throughput=args.throughput, npu_compute_time_list=times, pid=os.getpid())
    say("-----------------Performance Summary------------------")
    for name in ("H2D_latency", "NPU_compute_time", "D2H_latency"):
        if name == "NPU_compute_time" or args.display_all_summary:
            shown = (f"{key} = {value}" for key, value in summary[name].items() if key != "count")
            say(f"{name} (ms): {', '.join(shown)}")
    say(f"throughput 1000*batchsize.mean({args.batchsize})/NPU_compute_time.mean({mean}): {args.throughput}")
    say("------------------------------------------------------")
    if not folder:
        return
    first = sorted(folder.iterdir())[0] if args.index == 0 else folder
    if args.index == 0 and FAULT == "missing":
        first.unlink()
    elif args.index == 0 and FAULT == "stale":
        os.utime(first, (time.time() - 3600,) * 2)
    elif args.index == 0 and FAULT == "extra":
        name = re.sub(r"_\d+_", "_999_", first.name)
        written(folder / name, first.read_bytes(), args.generation)
    if FAULT == "wrong-count":
        times.pop()
    data = json.dumps(summary).encode()
    if FAULT != "no-summary":
        path = Path(f"{folder}_summary.json")
        written(path, data[: len(data) // 2] if FAULT == "truncated" else data, args.generation)


# Several devices: docs/ascend-tools.md#ais-bench-devices


def together(args: Args, index: int, queue: Any) -> None:
    """Waits for the other processes; 1 s at most, where the real tool waits 10 s."""
    say(f"subprocess_{index} qsize:{queue.qsize()} now waiting")
    queue.put(index)
    for _ in range(11):
        if queue.qsize() >= args.processes:
            break
        time.sleep(0.1)
    else:
        say(f"subprocess_{index} qsize:{queue.qsize()} time:11 s elapsed", "WARNING")
    say(f"subprocess_{index} qsize:{queue.qsize()} ready to infer run")


def shares(args: Args, count: int) -> list[str | None]:
    """The --input of each process: contiguous parts if inputs are divided, for which the parent loads on device 0."""
    if args.input is None or not (args.generation == "old" or args.divide_input):
        return [args.input] * count
    paths = args.input.split(",")
    if not os.path.exists(paths[0]):
        raise stop(f"error {paths[0]} not file or dir")
    files = paths if os.path.isfile(paths[0]) else folder_files(paths[0], args.generation)
    args.device = 0
    load(args)
    if args.generation == "old":
        each = math.ceil(len(files) / count)
        parts = [files[i * each : (i + 1) * each] for i in range(count)]
    else:
        parts = [list(part) for part in np.array_split(files, count)]
        if len(files) < count:
            raise OverflowError("get list part failed")
    return [args.input] * count if FAULT == "duplicate" else [",".join(part) for part in parts]


def log_failure(error: BaseException) -> None:
    say(f"subprocess run failed error_callback:{error}", "ERROR")


def several(args: Args) -> int:
    devices = args.device
    count = args.processes = len(devices)
    say(f"multidevice:{devices} run begin")
    pool = multiprocessing.get_context("fork").Pool(count)
    queue = multiprocessing.Manager().Queue()
    parts = shares(args, count)
    for i, device in enumerate(devices):
        mine = copy.copy(args)
        mine.device, mine.input = device, parts[i]
        mine.subfolder = [f"device{device}" if args.generation == "old" else f"device{device}_{i}"]
        pool.apply_async(infer, (mine, i, queue), error_callback=log_failure)
    pool.close()
    pool.join()
    result = int(queue.qsize() != 2 * count)
    say(f"multidevice run end qsize:{queue.qsize()} result:{result}")
    total = 0.0
    while queue.qsize():
        message = queue.get()
        if isinstance(message, list):
            gap = " " if args.generation == "old" else " " * 17
            index, throughput, begin, end = message
            line = f"i:{index} device_{devices[index]} throughput:{throughput}{gap}start_time:{begin} end_time:{end}"
            print(line if args.generation == "old" else f"[INFO] {line}", flush=True)
            total += throughput
    say(f"summary throughput:{total}")
    return result


def main(generation: str) -> None:
    os.environ.setdefault("STAND_IN_ACLRUNTIME", generation)  # the stand-in aclruntime reads it at its import
    notes.begin("ais_bench")
    try:
        import aclruntime  # noqa: F401 - an import error comes before errors of arguments

        args = arguments(generation)
        args.subfolder = []
        say("(this is a stand-in for ais_bench)")
        try:
            version = importlib.metadata.version("aclruntime")
        except importlib.metadata.PackageNotFoundError:
            version = "None"
        if version != "0.0.2":
            say(f"aclruntime version:{version} is lower please update aclruntime follow any one method", "WARNING")
            args.run_mode = "tensor"
        if FAULT == "nothing":
            raise SystemExit(0)
        if isinstance(args.device, list):
            raise SystemExit(several(args))
        infer(args)
    finally:
        notes.end("ais_bench")
