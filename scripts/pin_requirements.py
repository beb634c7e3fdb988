"""requirements.in, requirements-dev.in -> requirements*.txt: exact versions with the sha256 of their files, by uv.

`make pins` runs it. Versions that the present requirements*.txt pin are kept, unless the .in files ask for others. uv
takes the packages from the index that its own variables name (UV_DEFAULT_INDEX).

Two things are special about torch. Its plain build needs CUDA packages on Linux, which the CPU build does not: they
are pinned in requirements-cuda.txt. And its CPU build is on another index: its digests are added to those of the plain
build. If that index cannot be reached, the present ones are kept, which is possible as long as torch's version is.
"""

from __future__ import annotations

from _support import PYTHONS, VERSIONS, artifact, cli, torch_build, web
from _support.cli import die

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

GPU = re.compile(r"(nvidia|cuda|triton)\b")  # names of what only torch's plain build needs
PIN = re.compile(r"^(\S+==[^\\\n]*?) \\\n(?:    --hash=\S+(?: \\)?\n)+", re.MULTILINE)
DIGEST = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
UNREACHABLE = re.compile(r"error sending request|Failed to fetch|timed out|Connection refused|dns error|tunnel")
OF_NETWORK = "check the network, HTTPS_PROXY, and the index that uv's variables name (UV_DEFAULT_INDEX)"
OF_SOURCES = "check the .in files, and the index that uv's variables name (UV_DEFAULT_INDEX)"
HEAD = f"""\
# Written by make pins from {{source}}. Exact pins with the digests of their files, for {PYTHONS}.
--require-hashes
--only-binary :all:
"""
UV = (
    *("-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", VERSIONS[-1], "--generate-hashes"),
    *("--only-binary", ":all:", "--no-header", "--no-annotate"),
    *("--no-emit-package", "pip"),  # each Python brings one, by ensurepip
)


def read_pins(page: str) -> dict[str, str]:
    """{`name==version ; marker`: that line and the lines of its digests} of a page of requirements, in its order."""
    return {match[1]: match[0] for match in PIN.finditer(page)}


def compile_pins(requirements: list[str], present: str = "", options: tuple[str, ...] = ()) -> dict[str, str]:
    """The pins that uv finds for the lines of `requirements`; versions in the page `present` are preferred.

    Raises ValueError with uv's last line if it finds none.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "requirements.in"), Path(folder, "requirements.txt")
        source.write_text("\n".join(requirements) + "\n", "utf-8")
        out.write_text(re.sub(r" \\\n +--hash=\S+", "", present), "utf-8")  # uv would not ask for digests that it finds
        command = [sys.executable, *UV, *options, "--output-file", str(out), str(source)]
        environment = {"UV_HTTP_RETRIES": "1", **os.environ}  # uv's 3 take minutes if nothing answers
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise ValueError(" ".join(done.stderr.split()) or f"uv failed with status {done.returncode}")
        return read_pins(out.read_text("utf-8"))


def cpu_digests(version: str, index: str) -> list[str]:
    """The digests of torch's CPU build at its own index. Raises ValueError if uv does not find it there."""
    pins = compile_pins([f"torch=={version}+cpu"], options=("--no-deps", "--default-index", index))
    return sorted({digest for pin in pins.values() for digest in DIGEST.findall(pin)})


def add_cpu_build(pins: dict[str, str], present: dict[str, str], index: str) -> dict[str, str]:
    """The pins with the digests of torch's CPU build added to those of torch; without torch, the same pins."""
    (name,) = [name for name in pins if name.startswith("torch==")] or [""]
    if not name:
        return pins
    version, plain = torch_build.pinned_version(name), DIGEST.findall(pins[name])
    try:
        cpu = cpu_digests(version, index)
    except ValueError as error:
        cpu = sorted({*DIGEST.findall(present.get(name, ""))} - {*plain})
        if not cpu:
            remedy = f"run make pins where {web.host(index)} can be reached"
            die(f"torch {version}", f"the digests of its CPU build are not known ({error})", remedy)
        print(f"  {web.host(index)} cannot be reached: {len(cpu)} present digests of torch's CPU build are kept")
    hashes = "".join(f" \\\n    --hash={digest}" for digest in [*plain, *cpu])
    return {**pins, name: f"{name}{hashes}\n"}


def write_page(path: Path, source: Path, pins: dict[str, str]) -> None:
    """Writes a page of pins, if it differs."""
    page = HEAD.format(source=source.name) + "".join(pins.values())
    if not path.is_file() or path.read_text("utf-8") != page:
        artifact.write_text(path, page)
    print(f"  PINS      {path}: {len(pins)} pins")


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files are")
    parser.add_argument("--cpu-index", default=torch_build.CPU_INDEX, help="an index that has torch's CPU build")
    args = parser.parse_args()
    source, dev_source = args.folder / "requirements.in", args.folder / "requirements-dev.in"
    out, dev_out, cuda_out = (args.folder / f"requirements{part}.txt" for part in ("", "-dev", "-cuda"))
    print("  PINS      asks the package index; a minute or two")
    present = {path: path.read_text("utf-8") if path.is_file() else "" for path in (out, dev_out, cuda_out)}
    try:
        both = compile_pins(source.read_text("utf-8").splitlines(), present[out] + present[cuda_out])
        pins = {name: pin for name, pin in both.items() if not GPU.match(name)}
        shared = [name for name in pins if not name.startswith("torch==")]  # they have one version in both pages
        dev_lines = dev_source.read_text("utf-8").splitlines()
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            print("\n".join(shared), file=constraints, flush=True)
            dev = compile_pins(dev_lines, present[dev_out], ("--constraints", constraints.name))
    except ValueError as error:
        die("uv", str(error)[:500], OF_NETWORK if UNREACHABLE.search(str(error)) else OF_SOURCES)
    pins = add_cpu_build(pins, read_pins(present[out]), args.cpu_index)
    write_page(out, source, pins)
    write_page(cuda_out, source, {name: pin for name, pin in both.items() if name not in pins})
    write_page(dev_out, dev_source, dev)


if __name__ == "__main__":
    main()
