"""requirements.txt -> .venv, which every target but help, doctor, clean and distclean makes when needed.

`--dev` adds requirements-dev.txt. Only wheels are installed, and only those whose digests the pins contain. A copy of
the pins is written into .venv last: if it is missing, the installation is incomplete and starts over. The same pins
install nothing. pip's output is in .venv/pip.log. On Linux the CPU build of torch is installed where pip's
configuration or --cpu-index offers it; docs/install.md says more.
"""

from __future__ import annotations

from _support import PYTHONS, artifact, cli, machine, process, torch_build
from _support.cli import die
from _support.progress import display_form

import contextlib
import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Callable, List, NamedTuple, NoReturn

SHOWN = 15  # last lines of a failed step's output
NAME = r"([A-Za-z][\w.-]*?)(?=-\d|[=<>~! ]|$)"  # of a package, in `name==1.0` or in `name-1.0-py3-none-any.whl`
OTHER_INDEX = "name another index or a folder of wheels by pip's own variables (docs/install.md)"
REMEDIES = {  # what the output of a failed step contains: what to do; the first match counts
    r"No space left|Errno 28|Disk quota": "free some space (sizes: docs/install.md) and run the same command again",
    r"ensurepip": "install venv for this Python: on Debian and Ubuntu, apt install python3-venv",
    r"CERTIFICATE_VERIFY_FAILED|SSLError|certificate verify": "name your CA bundle in SSL_CERT_FILE (docs/install.md)",
    r"ProxyError|Cannot connect to proxy|Tunnel connection failed": "check HTTPS_PROXY and NO_PROXY (docs/install.md)",
    r"NewConnectionError|ConnectTimeout|ReadTimeout|Read timed out|ProtocolError|IncompleteRead|name resolution": (
        f"check the network and run the same command again, or {OTHER_INDEX}"
    ),
    r"DO NOT MATCH THE HASHES": (
        "pip found a file that is not a pinned one (its path or URL is above): see the indexes and folders of "
        f"python3 -m pip config list, remove the file, or {OTHER_INDEX}"
    ),
    r"require-hashes": "the pins contain no digest for it: run make pins (docs/internals.md)",
    r"ResolutionImpossible|conflicting dependencies": "see which constraints pip has: python3 -m pip config list",
    r"from versions: none": f"no index that pip reached has it: check the network and the proxy, or {OTHER_INDEX}",
    r"No matching distribution": f"the index has no such version for this Python and machine: {OTHER_INDEX}",
}


class StatusLine:
    """Shows the present step and the elapsed time on stderr: one line that moves on a terminal, a line every 30 s
    otherwise, nothing under make -s."""

    def __init__(self) -> None:
        self.form = display_form(sys.stderr.isatty())
        self.start = self.shown = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def update(self, text: str) -> None:
        if self.form == "bar":
            print(f"\r  {text}, {self.seconds():.0f} s\033[K", end="", file=sys.stderr, flush=True)
        elif self.form == "lines" and time.monotonic() - self.shown >= 30:
            print(f"  {text}, {self.seconds():.0f} s", file=sys.stderr, flush=True)
            self.shown = time.monotonic()

    def clear(self) -> None:
        if self.form == "bar":
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def print(self, text: str) -> None:
        """Prints a line on stdout that stays, except under make -s."""
        self.clear()
        if self.form:
            print(text)


class Environment(NamedTuple):
    """The virtual environment to make."""

    folder: Path
    requirements: Path
    lock: IO[str]  # stdin of every step
    line: StatusLine

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")


def run(command: List[str], log: IO[bytes], lock: IO[str], tick: Callable[[], None]) -> int:
    """Runs a step with its output in `log`; returns its status. `tick` is called several times a second.

    `lock` is its stdin only for the lock. Processes that a killed step has started inherit it, so that the next
    installation waits for them.
    """
    with process.interrupts_held():
        step = subprocess.Popen(
            command,
            env=torch_build.pip_environment(),
            stdin=lock,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=process.prepare_child,
        )
    with step:
        try:
            while True:
                tick()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return step.wait(0.2)
        except BaseException:  # Ctrl-C, which the step ignores
            step.kill()
            raise


def fail(step: str, status: int, output: str, where: str = "") -> NoReturn:
    """Prints the last lines of a failed step's output, and exits 1 with the remedy that fits it."""
    lines = [line for line in output.splitlines() if line.strip()]
    for line in lines[-SHOWN:]:
        shown = re.sub(r"(?<=://)[^/@\s]*(?=@)|(?<=\?)\S+", "…", cli.one_line(line))  # no password or token of a URL
        print(f"  {shown}", file=sys.stderr)
    matches = [remedy for pattern, remedy in REMEDIES.items() if re.search(pattern, output)]
    if status == -9:
        matches = ["it was killed, probably out of memory: free memory and run the same command again"]
    remedy = matches[0] if matches else "see the lines above"
    die(step, f"failed with status {status}" + (f", its output is in {where}" if where else ""), remedy)


def stage_of(output: str) -> str:
    """What pip does, by its output so far."""
    installing = re.search(r"^Installing collected packages: (.*)$", output, re.MULTILINE)
    if installing:
        return f"installing {len(installing[1].split(', '))} packages"
    steps = re.findall(rf"^ *(?:Collecting|Processing|Downloading) (?:\S*/)?{NAME}(.*)$", output, re.MULTILINE)
    if not steps:
        return "starting pip"
    name, rest = steps[-1]
    size = re.search(r"\(([\d.]+ [kMG]B)\)", rest)
    count = len({re.sub(r"[-_.]+", "-", step[0]).lower() for step in steps})
    return f"package {count}: {name}" + (f" ({size[1]})" if size else "")


def create(base: str, target: Environment) -> None:
    """Makes an empty virtual environment by the interpreter `base`."""
    command = [base, "-m", "venv", "--clear", str(target.folder)]
    with tempfile.TemporaryFile() as log:
        status = run(command, log, target.lock, lambda: target.line.update(f"creating {target.folder}"))
        if status:
            log.seek(0)
            target.line.clear()
            fail(f"{base} -m venv", status, log.read().decode("utf-8", "replace"))


def torch_for(target: Environment, cpu_index: str) -> List[str]:
    """pip's arguments for the build of torch, after a line that names it; none if the requirements do not pin it.

    The plain build for Linux needs the packages of requirements-cuda.txt, which is beside the requirements.
    """
    pin = torch_build.pinned_version(target.requirements.read_text("utf-8"))
    if not pin:
        return []
    target.line.update("looking for a CPU build of torch")

    def versions(*options: str) -> List[str]:
        return torch_build.available_versions(target.python, *options)

    settings = torch_build.pip_settings(target.python)
    build = torch_build.choose_build(pin, settings, versions, cpu_index)
    if not build.warning:
        target.line.print(f"            torch {build.version}, {build.source}")
    else:
        target.line.clear()
        print(f"{Path(sys.argv[0]).name}: warning: {build.warning}", file=sys.stderr, flush=True)
    constraints = target.folder / "torch.txt"
    artifact.write_text(constraints, f"torch==={build.version}\n")  # == would allow any build of this version
    cuda = target.requirements.with_name("requirements-cuda.txt")
    needs_cuda = sys.platform == "linux" and build.version == pin and cuda.is_file()
    return [*build.options, "--constraint", str(constraints), *(["--requirement", str(cuda)] if needs_cuda else [])]


def install(target: Environment, arguments: List[str]) -> None:
    """Installs the requirements by pip, with its output in pip.log: wheels only, and each must have a pinned digest."""
    path = target.folder / "pip.log"

    def output() -> str:
        return path.read_text("utf-8", "replace")

    command = [target.python, "-m", "pip", "--disable-pip-version-check", "install", "--no-input"]
    command += ["--require-hashes", "--only-binary", ":all:", "--requirement", str(target.requirements), *arguments]
    with open(path, "wb") as log:
        status = run(command, log, target.lock, lambda: target.line.update(stage_of(output())))
    target.line.clear()
    if status:
        fail("pip", status, output(), str(path))
    installed = re.search(r"^Successfully installed (.*)$", output(), re.MULTILINE)
    count = len(installed[1].split()) if installed else 0
    target.line.print(f"            {count} packages installed in {target.line.seconds():.0f} s")


def is_current(stamp: Path, requirements: Path) -> bool:
    return stamp.is_file() and stamp.read_text("utf-8") == requirements.read_text("utf-8")


def is_foreign(folder: Path) -> bool:
    """Whether somebody else made the environment. Those of this script contain its pins, or else there is the log or
    the lock of an interrupted set-up."""
    marks = (folder / "requirements.txt", folder / "pip.log", artifact.lock_beside(folder))
    return folder.is_dir() and any(folder.iterdir()) and not any(mark.exists() for mark in marks)


def base_python() -> str:
    """The interpreter to make the environment by; exits 1 if no supported version is installed."""
    base = machine.supported_python()
    if base is None:
        problem = f"it is {sys.version.split()[0]}, and no {PYTHONS} with the module venv is on PATH"
        die("python3", problem, "install one (on Debian and Ubuntu also python3-venv), or set PYTHON=")
    return base


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the virtual environment's folder")
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--dev", action="store_true", help="add the requirements to an existing environment")
    parser.add_argument("--cpu-index", default=torch_build.CPU_INDEX, help="an index that has torch's CPU build")
    args = parser.parse_args()
    stamp = args.out / args.requirements.name
    if not os.access(args.out if args.out.is_dir() else args.out.absolute().parent, os.W_OK):  # a read-only tree
        if is_current(stamp, args.requirements):
            return
        remedy = "run make setup where this tree is writable, or give PYTHON="
        die(args.out, "missing or made from other pins, and this folder is read-only", remedy)
    if is_foreign(args.out) and not args.out.is_symlink():
        remedy = f"move it away, or set PYTHON={args.out}/bin/python"
        die(args.out, "an environment that make did not make, which set-up would replace", remedy)
    base = base_python()
    with artifact.locked(args.out, beside=True), open(args.requirements) as lock:
        with contextlib.suppress(OSError):  # NFS has no such lock for a file that is open for reading
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current(stamp, args.requirements):
            if args.out.is_symlink():
                remedy = f"remove the link, or set PYTHON={args.out}/bin/python"
                die(args.out, "a link to an environment with other packages, which set-up would replace", remedy)
            pins = args.requirements.read_text("utf-8")
            if not pins.strip():
                die(args.requirements, "empty, so nothing would be installed", "restore the file of the project")
            artifact.remove(stamp)
            target = Environment(args.out, args.requirements, lock, StatusLine())
            target.line.print(f"  SETUP     {args.out} from {args.requirements}")
            try:
                if not args.dev:
                    create(base, target)
                install(target, torch_for(target, args.cpu_index))
            finally:
                target.line.clear()
            artifact.write_text(stamp, pins)
        artifact.renew(stamp)


if __name__ == "__main__":
    main()
