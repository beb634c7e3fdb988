"""`python3 -m ais_bench` of CANN's interpreter (contract, section 2), either generation, its devices held. Python 3.7.

Each run has a private folder of its own, so nothing of an earlier one can be taken for a result, and whatever it left
is checked: status, a summary of this run, one output an image, fresh, of ten finite values.
"""

from __future__ import annotations

from _support import artifact, process
from _support.artifact import Record, digest
from _support.cli import die
from _support.progress import Progress

import contextlib
import json
import math
import os
import re
import shutil
import signal
import stat
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from engines import RunRequest, options_of
from engines.ascend import _cann, _npu_smi
from formats.outputs import decode, name_of
from formats.user_inputs import shape_text
from network.spec import IMAGE_SHAPE

# What ais_bench or CANN's runtime says, and what mostly helps.
CAUSES = {
    r": no such file or directory$": "give AIS_BENCH= a command that there is: make doctor",  # our own words
    r"cannot open shared object": "CANN's libraries are not found: make doctor, or give SET_ENV= its set_env.sh",
    r"No module named": "install ais_bench and aclruntime for CANN's python3 (make doctor), or give AIS_BENCH=",
    r"not match": f"its batch size is another than asked, or its input is not float32 {shape_text(IMAGE_SHAPE)}",
    r"soc_version|500002|507011": "the model is for another chip or a newer CANN: npu-smi info, then make om anew",
    r"ermission|owner|writable|path_security": "see its log for the path; files and folders have to be your own",
    r"open device|507033|507899|set device": "the device cannot be opened: npu-smi info, another DEVICE=, or reset it",
    r"numpy": "CANN's python3 wants numpy < 2: make doctor",
}


AGAIN = "npu-smi info, then the same make command again"


def private(path: Path) -> bool:
    """Whether the newer ais_bench would read it (contract 2.10): no link, ours or our group's, written by us alone."""
    seen = path.lstat()
    ours = seen.st_uid == os.geteuid() or seen.st_gid in os.getgroups()
    return ours and not stat.S_ISLNK(seen.st_mode) and not seen.st_mode & 0o022 and bool(seen.st_mode & 0o400)


def busy(number: int) -> float | None:
    """The share of a device, 0 to 1, that npu-smi shows as busy now; None where it shows nothing."""
    try:
        aicores = [device.aicore for device in _npu_smi.look()[1] if device.number == number]
    except _npu_smi.NoNpu:
        aicores = []
    return int(aicores[0]) / 100 if aicores and aicores[0] else None


def checked_devices(numbers: Sequence[int], soc_version: str) -> Tuple[Dict[str, str], Dict[int, str]]:
    """(what to record of the devices, a name of each by which all runs of this host know it); exits 1 if npu-smi does
    not show one, or shows another chip than `soc_version`.

    Where there is no npu-smi, as in many containers, says that nothing was checked.
    """
    text = ",".join(map(str, numbers))
    try:
        driver, shown = _npu_smi.look()
    except _npu_smi.NoNpu as reason:
        print(f"  {reason}: whether device {text} is {soc_version} is not checked")
        return {"device": text}, {}
    devices = {device.number: device for device in shown}
    found = []
    for number in numbers:
        there = ", ".join(f"{i} ({device.name})" for i, device in sorted(devices.items())) or "none"
        if number not in devices:
            die(f"DEVICE={text}", f"no device {number}; npu-smi shows {there}", "give DEVICE= one of them")
        device = devices[number]
        wanted = soc_version.replace("Ascend", "", 1)
        if device.name != wanted and not (device.name in _npu_smi.VAGUE and wanted.startswith(device.name)):
            fitting = [str(i) for i, other in sorted(devices.items()) if other.name == wanted]
            remedy = f"give CHIP={device.name}" + (f", or DEVICE= of {', '.join(fitting)}" if fitting else "")
            die(f"DEVICE={text}", f"device {number} is a {device.name}, the model is for {soc_version}", remedy)
        if device.health != "OK":
            print(f"  device {number}: npu-smi shows its health as {device.health}; see npu-smi info -t health")
        found.append(f"{number} ({device.name})")
    names = {number: f"npu-{device.npu}-{device.chip}" for number, device in devices.items()}
    return {"device": ", ".join(found), "driver": driver}, names


def divides(command: List[str], environment: Dict[str, str]) -> bool:
    """Whether this is the newer generation, which has to be told to divide the inputs; both call themselves 0.0.2."""
    status, text = process.ask_program([*command, "--help"], environment, 120)
    if status:
        what, remedy = explained(text, status)
        die(" ".join(command), f"does not start: {what}", remedy)
    if "--output_dirname" not in text:
        remedy = "install ais_bench and aclruntime for CANN's python3 (make doctor), or give AIS_BENCH= another command"
        die(" ".join(command), "is not the inference tool, but another of that name", remedy)
    return "--divide_input" in text


class Expected(NamedTuple):
    """What one run has to leave."""

    begin: int  # ns, by the clock of the file system: what is older is not of this run
    devices: int
    images: int  # one output each
    batch_size: int
    output_format: str
    loop: int  # times that each batch runs


def summarized(summary: Path, expected: Expected, files: int) -> str:
    """What is wrong with the summary of a run over `files` inputs; empty if nothing is."""
    if not summary.is_file() or summary.stat().st_mtime_ns < expected.begin:
        return f"no {summary.name} of this run"
    try:
        found = json.loads(summary.read_text("utf-8"))
        times = found["npu_compute_time_list"]
        count = len(times)
        inputs = sum(len(slot["infiles"]) for slot in found["filesinfo"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{summary.name} is not whole"
    if not all(type(ms) in (int, float) and 0 < ms < math.inf for ms in times):
        return f"{summary.name} contains invalid times"
    wanted = math.ceil(files / expected.batch_size) * expected.loop
    if (count, inputs) != (wanted, files):
        return f"{summary.name} reports {count} runs over {inputs} inputs, not {wanted} over {files}"
    return ""


def find_outputs(out: Path, expected: Expected, log: Path) -> List[Path]:
    """Every image's output, in the images' order, wherever below `out` its device has left it; exits 1 if one is
    missing, double or too many."""
    folders = device_folders(out, expected.devices)
    where: Dict[str, Path] = {}
    for folder in folders:
        for name in sorted(os.listdir(str(folder))):
            if name in where:
                die(log, f"{name} is there twice, from {where[name].parent.name} and {folder.name}", AGAIN)
            where[name] = folder / name
    wanted = [name_of(i, expected.output_format) for i in range(expected.images)]
    missing = [name for name in wanted if name not in where]
    extra = sorted(set(where).difference(wanted))
    if missing:
        die(log, f"{len(missing)} of {expected.images} outputs are missing, the first {missing[0]}", AGAIN)
    if extra:
        die(log, f"{extra[0]} is one output too many", AGAIN)
    return [where[name] for name in wanted]


def device_folders(out: Path, devices: int) -> List[Path]:
    """Where ais_bench leaves outputs: `out`, or a folder of each device below it."""
    return [out] if devices == 1 else sorted(path for path in out.glob("device*") if path.is_dir())


def collected(out: Path, expected: Expected, log: Path) -> List[Path]:
    """Every image's output, in the images' order; exits 1 if one is missing, double, of an earlier run, short or not
    finite, or if a summary is not of this run."""
    outputs = find_outputs(out, expected, log)
    for folder in device_folders(out, expected.devices):
        summary, files = folder.with_name(f"{folder.name}_summary.json"), len(os.listdir(str(folder)))
        wrong = summarized(summary, expected, files)
        if wrong:
            die(log, wrong, AGAIN)
    for path in outputs:
        if path.stat().st_mtime_ns < expected.begin:
            die(log, f"{path.name} is older than this run", AGAIN)
        decode(Path(path.name), path.read_bytes(), expected.output_format, f"{AGAIN}; its log: {log}")
    return outputs


def check_batch(said: str, batch_size: int, log: Path, way_back: str) -> None:
    """Exits 1 if the model takes other batches than asked, by what ais_bench says of filling them (contract 2.6)."""
    for found in re.findall(r"filesperbatch:(\d+)", said):
        if int(found) != batch_size:
            die(log, f"the model takes batches of {found}, not {batch_size}", f"give BS={found}{way_back}")


def explained(text: str, status: int) -> Tuple[str, str]:
    """(what went wrong, what to do) by what ais_bench said and its status."""
    if status == 124:
        return "its time limit has passed", "npu-smi info; raise ais_bench.time_limit if the device is well"
    lines = [line.strip() for line in text.splitlines() if line.strip() and "Processing: " not in line]  # no bar
    errors = [line[line.index("[ERROR]") :] for line in lines if "[ERROR]" in line]
    errors += [line for line in lines if re.match(r"\w*Error\b", line)] or lines[-1:] or ["nothing said"]
    if status == 137:
        return "it was killed", "free some memory, and run the same command again"
    named = "".join(f"{known.name}, " for known in signal.Signals if known == status - 128)
    fitting = [CAUSES[cause] for cause in CAUSES if any(re.search(cause, line) for line in errors)]
    remedy = (fitting or ["npu-smi info, make doctor"])[0]
    return f"status {status}, {named}{errors[0][:300]}", remedy


def copied(source: Path, target: Path) -> Path:
    """A copy that the newer ais_bench reads whatever the umask."""
    shutil.copyfile(str(source), str(target))
    target.chmod(0o600)
    return target


class Run(NamedTuple):
    """One call of ais_bench."""

    name: str  # of its folder below the session's private one
    bins: Path  # a folder that ais_bench can read: see Session.readable
    images: int  # how many of them
    flags: Sequence[str] = ()
    loop: int = 1  # times that each batch runs


class Session:
    """ais_bench and the devices, held; `work`, a private folder; `conditions`, what to record."""

    def __init__(self, request: RunRequest) -> None:
        self.request, self.model, self.log = request, request.model, request.log
        self.numbers = sorted({int(word) for word in (request.devices or "0").split(",")})
        model = request.record["provenance"]
        self.limit, self.size = int(request.limits["ais_bench.time_limit"]), int(model["batch_size"])
        checked, self.names = checked_devices(self.numbers, options_of(model["options"])["soc_version"])
        self.conditions: Record = dict(checked)
        _cann.must_be_plain(self.log.parent)
        self.environment = _cann.environment(compiler=False)
        self.command = process.command_from_env("AIS_BENCH", "python3 -m ais_bench")
        self.newer = divides(self.command, self.environment)
        runtime = f"ais_bench ({'newer' if self.newer else 'older'}), CANN {_cann.version(self.environment)}"
        self.conditions["runtime"] = runtime

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        used = {0, *self.numbers} if len(self.numbers) > 1 else {*self.numbers}  # to divide, it loads it on 0 first
        with contextlib.ExitStack() as stack:
            locks = sorted((process.lock_path(self.names.get(number, f"device-{number}")), number) for number in used)
            # In the order of their names, not of the numbers, which another run may count in another way.
            self.held = [stack.enter_context(process.lock_one_of([lock], f"device {number}")) for lock, number in locks]
            self.work = stack.enter_context(artifact.temporary(self.log.parent.resolve() / "ais_bench"))
            self.work.mkdir(mode=0o700)
            if not private(self.model):
                self.model = copied(self.model, self.work / "model.om")
            yield

    def readable(self, bins: Path, count: int) -> Path:
        """The folder of the bins, or of copies, image_<i>.bin, that ais_bench takes."""
        files = list(bins.iterdir())
        if len(files) == count + 1 and all(private(path) for path in (bins, *files)):  # + 1: the manifest
            return bins
        folder = self.work / "bin"
        folder.mkdir(mode=0o700)
        for i in range(count):
            copied(bins / f"image_{i}.bin", folder / f"image_{i}.bin")
        return folder

    def run(self, run: Run) -> Tuple[List[Path], Record]:
        """(the output of each bin, the summary of device 0) of one run; exits 1 on any failure."""
        folder = self.work / run.name
        folder.mkdir(mode=0o700)  # of two devices' processes, the slower would fail to make it
        begin = folder.stat().st_mtime_ns  # by the clock of the file system, which may be another host's
        progress, way_back = Progress(run.images, "images"), self.way_back()

        def tick(_: float) -> None:
            check_batch(process.log_text(self.log), self.size, self.log, way_back)
            progress.update(min(run.images - 1, sum(1 for _ in folder.rglob("*_0.*"))))

        program = process.Program(self.arguments(run), self.work, self.environment, self.log, self.limit)
        status = process.run(program, self.held, tick)
        text = process.log_text(self.log)
        if status:
            progress.close()
            what, remedy = explained(text, status)
            die(self.log, f"ais_bench failed: {what}", remedy + way_back)
        if digest(self.request.model) != self.request.record["sha256"]:
            die(self.request.model, "changed while it was waiting or running", "run the same make command again")
        check_batch(text, self.size, self.log, way_back)
        output_format = self.request.output_format
        expected = Expected(begin, len(self.numbers), run.images, self.size, output_format, run.loop)
        outputs = collected(folder, expected, self.log)
        progress.update(run.images)
        return outputs, artifact.read_record(self.work / f"{run.name}_summary.json")

    def arguments(self, run: Run) -> List[str]:
        """The command line of one run."""
        command = [*self.command, "--model", str(self.model.resolve()), "--input", str(run.bins.resolve())]
        command += ["--output", str(self.work), "--output_dirname", run.name, "--batchsize", str(self.size)]
        command += ["--outfmt", self.request.output_format.upper()]
        command += ["--device", ",".join(map(str, self.numbers)), *run.flags]
        command += ["--divide_input", "1"] if self.newer and len(self.numbers) > 1 else []
        return command + (["--loop", str(run.loop)] if run.loop > 1 else [])

    def way_back(self) -> str:
        """One more remedy where the model is the user's own."""
        given = self.request.record["provenance"].get("given")
        return f", or rm {self.request.model}, your own .om, for one of ours" if given else ""
