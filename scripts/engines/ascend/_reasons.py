"""Finds the reason of a failure in the output of atc or ais_bench, and the usual remedy.

Forms of the messages: docs/ascend-tools.md#cann-errors. Python 3.7, standard library only.
"""

from __future__ import annotations

from _support.process import without_escapes

import re
import signal
from typing import Dict, List, NamedTuple, Tuple

from network.spec import IMAGE_SHAPE, INPUT

# An error code of CANN, at the beginning of a message or in brackets after a name: EE1001: …, Invalid_Argument(EE1001).
CODE = re.compile(r"(?:^|[\s(\]])(E[A-Z0-9]\d{4})(?=[:)\]\s,.]|$)", re.ASCII)
NAMED = re.compile(r"\b([A-Za-z]\w*_\w+\([A-Z0-9]{6}\)\s*:.*)", re.ASCII)
STAMP = re.compile(r"\[PID: ?\d+\]\s*(\d{4}-[-:.\d]+)?\s*")  # process id and time, since CANN 8
PREFIX = re.compile(r"^(\[(ACL )?(ERROR|WARN|WARNING)( msg)?\]\s*)+")
WARNING = re.compile(r"\[(ACL )?WARN(ING)?\]|WARNING:")  # at the beginning of a line
INNER = re.compile(r"E\w9999\b|(Inner|Internal) Error|please contact [\w ]+", re.IGNORECASE)
FLAG = re.compile(r"^ERROR: (unknown command line flag|flag '|Non-option parameter).*", re.MULTILINE)
CRASH = r"terminate called|libc\+\+abi: terminating|Fatal Python error"
NOISE = re.compile(r"^(Possible Cause|Solution|TraceBack)")  # they name causes that need not be the one
# Lines without an error: information, the progress bar, and the source lines of a traceback.
LEVELS = ("[INFO]", "[DEBUG]", "[EVENT]", "Inference ", 'File "', "raise ")

SHAPE = f"[N, {', '.join(map(str, IMAGE_SHAPE))}]"
CHIP = "the model is for another chip or CANN: run npu-smi info, remove the model, make om"
MEMORY = "the device's memory is full: stop what uses it (npu-smi info), set a smaller BS=, or another DEVICE= if "
MEMORY += "there is one"
NEWER = "a library was built for a newer system than this one: build aclruntime on this host, or put a newer libstdc++ "
NEWER += "first in LD_LIBRARY_PATH"
PAIRING = (
    "this CANN was built for a newer system than this one: use a CANN that supports this system, or one of CANN's "
)
PAIRING += "container images; for GLIBCXX a newer libstdc++ first in LD_LIBRARY_PATH may be enough"
PRELOAD = "export LD_PRELOAD= with the path of the library that the line names, then run again"
HOST_MEMORY = "the host's memory is full: free some, or raise the limit of the job or of its processes, then run again"
DISK = "free disk space (ROOT, TMPDIR and the home folder), then run again"
SHARED_MEMORY = "the shared memory /dev/shm is full: free it, or start the container with a larger --shm-size"
PROCESSES = (
    "the limit of processes is reached: raise it (ulimit -u, or pids.max of the container), or run fewer at once"
)
FILES = "the limit of open files is reached: raise it (ulimit -n), then run again"
OLDER_PYTHON = "this module left Python in 3.12 or 3.13: put an older python3 first on PATH (make doctor)"
DEVICE_ACCESS = (
    "this user must not open the device: join its group (HwHiAiUser, ls -l /dev/davinci*), or, in a container, "
)
DEVICE_ACCESS += "pass in the device"
DEVICE = (
    "the device cannot be opened: run npu-smi info -t health, end what uses it, set another DEVICE= if there is one, "
)
DEVICE += "or have an administrator reset it"
MACHINE = "this CANN, or its python3, is for another kind of CPU: install the package for this one (uname -m)"
WRITABLE = "the file system is read-only: use another ROOT=, TMPDIR or HOME that can be written"
UTF8 = "export LC_ALL=C.UTF-8, then run again"
REPAIR = "the library that the line names is damaged: install its package again"
DRIVER_LIBRARY = (
    "the driver's libraries are not found: install the driver; in a container, pass in its folder (docs/ascend.md)"
)
PYTHON_LIBRARY = "add the lib folder of the python3 that the line names to LD_LIBRARY_PATH, or use another python3"
SYSTEM_LIBRARY = "install the library that the line names, or add its folder to LD_LIBRARY_PATH"
PIP = "python3 -m pip install '{}' with the python3 that {} (make doctor)"
NUMPY = (
    r"_ARRAY_API not found|compiled using NumPy 1|`?np\.\w+`? was removed in the NumPy 2|"
    r"numpy\.core\.multiarray failed|module 'numpy' has no attribute '(\w+_|product|cumproduct|in1d|trapz)'"
)
OLD_NUMPY = r"module 'numpy' has no attribute '(bool|int|float|object|complex|str)'"  # removed in numpy 1.24
NO_HOST_MEMORY = (
    r"(?i)\[Errno 12\]|\bfork\b.*cannot allocate memory|std::bad_alloc|\bMemoryError\b|resource_tracker.*memory"
)
NO_SHARED_MEMORY = (
    r"^Bus error|(\[Errno 28\]|No space left on device).*(/psm_|/dev/shm|/sem\.)|(/psm_|/dev/shm).*No space left"
)
NO_SPACE = r"(?i)\[Errno 28\]|no space left on device|disk quota exceeded"
NO_PROCESS = (
    r"can't start new thread|[Rr]esource temporarily unavailable|\[Errno 11\]|pthread_create failed|"
    r"[Cc]an(no|')t create (a )?thread"
)
NO_FILE = r"(?i)\[Errno 24\]|too many open files"
OLD_MODULES = (
    r"No module named '?(imp|distutils|asynchat|asyncore|smtpd|cgi|pipes|telnetlib)\b"  # left Python 3.12 or 3.13
)
ILLEGAL = r"^Illegal instruction"
OTHER_MACHINE = r"Exec format error|\[Errno 8\]|cannot execute binary file|wrong ELF class"
READ_ONLY = r"(?i)\[Errno 30\]|read-only file system"
NOT_UTF8 = r"^Unicode(En|De)codeError: 'ascii'"
DAMAGED = r"file too short|invalid ELF header"
NO_DRIVER_LIBRARY = r"lib(ascend_hal|drvdsmi_host|dcmi|c_sec|mmpa)\.so.*cannot open shared object"
NO_PYTHON_LIBRARY = r"libpython[\d.]+\w*\.so.*cannot open shared object"
NO_SYSTEM_LIBRARY = (
    r"lib(gomp|stdc\+\+|gfortran|openblas|ssl|crypto|ffi|sqlite3|GL|z)(-\w+)?\.so.*cannot open shared object"
)
NO_DEVICE_ACCESS = r"/dev/(davinci|devmm_svm|hisi_hdc)\w*.*([Pp]ermission denied|errno:? ?13|not permitted)"
GLIBC = r"(GLIBC(XX)?|CXXABI)_[\d.]+'? not found"
STATIC_TLS = r"cannot allocate memory in static TLS block"
NO_LIBRARY = r"cannot open shared object"
NO_SYMBOL = r"undefined symbol"
# Causes on the host: {a pattern in a line: the usual remedy}. They count before the messages that follow from them.
HOST_LIMITS = {
    NO_PROCESS: PROCESSES,
    NO_FILE: FILES,
    NO_SHARED_MEMORY: SHARED_MEMORY,
    NO_SPACE: DISK,
    READ_ONLY: WRITABLE,
    ILLEGAL: MACHINE,
    OTHER_MACHINE: MACHINE,
    NOT_UTF8: UTF8,
}
HOST = {NO_HOST_MEMORY: HOST_MEMORY, **HOST_LIMITS, NO_DEVICE_ACCESS: DEVICE_ACCESS}
LIBRARIES = {
    DAMAGED: REPAIR,
    NO_DRIVER_LIBRARY: DRIVER_LIBRARY,
    NO_PYTHON_LIBRARY: PYTHON_LIBRARY,
    NO_SYSTEM_LIBRARY: SYSTEM_LIBRARY,
}
# {a pattern in a message of the loader, of Python, or of CANN's runtime: the usual remedy}; the first that fits counts.
LOADER = {
    GLIBC + r"(?!.*aclruntime).*required by \S*(?i:ascend|/cann)": PAIRING,
    GLIBC: NEWER,
    STATIC_TLS: PRELOAD,
    **LIBRARIES,
    NO_LIBRARY: "CANN's libraries are not found: make doctor, or set SET_ENV= to CANN's set_env.sh",
    NO_SYMBOL: "aclruntime was built for another CANN or Python: build it again with this CANN (docs/ascend.md)",
    NUMPY: "it needs numpy < 2: " + PIP.format("numpy<2", "ais_bench uses"),
    OLD_NUMPY: "it needs an older numpy: " + PIP.format("numpy<1.24", "ais_bench uses"),
    OLD_MODULES: OLDER_PYTHON,
    r"No module named '?(numpy|tqdm|attrs?)\b": "install that module for CANN's python3 (make doctor)",
    r"No module named": "install ais_bench and aclruntime for CANN's python3 (make doctor), or set AIS_BENCH=",
    r"^SyntaxError": "ais_bench does not run on this python3: put one that CANN supports first on PATH (make doctor)",
    **HOST,
}
AIS_BENCH = {
    r": no such file or directory$": "set AIS_BENCH= to an existing command, or leave it out (make doctor)",  # process
    **LOADER,
    r"(?i)task.?type.?not.?support|507009": "on a vNPU (vir01, vir04 …) an .om of CANN 8 or newer does not load: use a "
    "whole device, or compile with an older CANN",
    r"(?i)soc.?version|ModelCheckCompatibility|500002|507011|507008": CHIP,
    r"(?i)out of memory|memory is insufficient|(malloc|alloc\w* \w*memory).*fail|fail.*(malloc|alloc\w* \w*memory)|"
    r"MEMORY_ALLOCATION|207001|EL0004": MEMORY,
    r"not match": f"check that BS= is the model's batch size and its input is float32 {SHAPE}",
    r"ermission|owne[rd]|writable|path_security": "find the path in the log; the file or folder must belong to you",
    r"(?i)open device|507033|507899|set_?device|107001": DEVICE,
    r"(?i)507015|507018|507046|507053|ai_?core.*(exception|error)|\bECC\b": "the device failed while it ran: run "
    "npu-smi info -t health; if it happens again, have an administrator reset it, and compile the model again",
    r"numpy": "CANN's python3 may need numpy < 2, or another numpy: make doctor shows what this CANN needs",
}
# {first characters of an error code: the usual remedy}, docs/ascend-tools.md#atc-exit.
RUN_CODES = {("EL", "EE", "EZ", "E1", "EI"): "the driver or the runtime failed: run npu-smi info and make doctor"}
OPS = "CANN 8.5 and newer need the operators of the chip, a package of their own: install its ops package (make doctor)"
ATC_CODES = {
    ("E10016", "E10017"): f"the graph's input must be named {INPUT}",
    ("E10",): "a flag is wrong: check atc.* and the chip's line in params.yaml, and that this CANN supports the chip",
    ("E13",): "atc cannot read or write a file: check disk space and permissions (make doctor)",
    (
        "E16",
        "E19010",
    ): "this CANN does not have an operator of the graph: set onnx.opset: 11, or another optimize.resize",
    ("E19",): "only CANN's own log has the reason: set atc.log: debug, run again, read ~/ascend/log",
    ("EC0010",): "the python3 that atc takes from PATH lacks a module: make doctor names it",
    ("EZ",): "this chip does not have an operator of the graph: try another optimize.resize, precision_mode or CANN",
    ("E2", "E4"): "an operator does not compile: check memory (atc.memory, -j) and Python modules (make doctor)",
    ("EL", "EE"): "the driver or the runtime failed: make doctor",
}
NO_OPERATOR = ("E16", "E19", "E2", "E4", "EB", "EZ")  # codes of a failure that the lack of the ops package may cause
MODULE = ATC_CODES[("EC0010",)]
# What goes wrong before an operator does not compile, or before an inner error; shown instead of that.
ATC_ROOTS = {
    NUMPY: "atc needs numpy < 2: " + PIP.format("numpy<2", "atc takes from PATH"),
    OLD_NUMPY: "atc needs an older numpy: " + PIP.format("numpy<1.24", "atc takes from PATH"),
    NO_HOST_MEMORY: "free memory, or run fewer atc at once (raise atc.memory, or a smaller -j)",
    r"BrokenProcessPool|terminated abruptly|(?i:out of memory)": "free memory, or run fewer atc at once (raise "
    "atc.memory, or a smaller -j)",
    **HOST_LIMITS,
    GLIBC: PAIRING,
    STATIC_TLS: PRELOAD,
    r"FrameLocalsProxy|cannot pickle 'frame": "this CANN does not support this python3: put an older one first on PATH "
    "(make doctor)",
    OLD_MODULES: OLDER_PYTHON,
    r"No module named": MODULE,
    NO_SYMBOL: "libraries of two CANN are mixed: run make in a new shell, and set SET_ENV= to one set_env.sh",
    **{cause: LIBRARIES[cause] for cause in LIBRARIES if cause != NO_DRIVER_LIBRARY},  # compiling needs no driver
    NO_LIBRARY: LOADER[NO_LIBRARY],
    r"Permission denied": ATC_CODES[("E13",)],
}
ATC = {
    r"(?i)\bops?\b.{0,20}\bpackage\b.{0,40}\bnot\b|ascend_ops_install|\bopp\b.{0,40}not (exist|install|found)": OPS,
    **ATC_ROOTS,
    r"(?i)cannot allocate memory": ATC_ROOTS[NO_HOST_MEMORY],
}
ROOTED = ("E19", "E2", "E4", "EB", "EC", "EZ")  # codes that may follow from one of ATC_ROOTS
STATUSES = {
    124: "raise atc.time_limit, or read in the log how far it came",
    127: "CANN's libraries are not found: make doctor, or set SET_ENV= to CANN's set_env.sh",
    132: MACHINE,
    135: SHARED_MEMORY,
    137: "killed, probably out of memory: free memory, or run fewer atc at once (raise atc.memory, or a smaller -j)",
}


class Message(NamedTuple):
    """What CANN says about a failure."""

    text: str  # one line
    code: str  # E10001; empty if it has none
    block: List[str]  # its lines
    is_empty: bool  # it only says that there was an error
    is_inner: bool  # its code says nothing about the error


def cleaned(line: str) -> str:
    """A line without the marks of its level, process and time."""
    return STAMP.sub("", PREFIX.sub("", line.strip())).strip()


def code_of(line: str) -> str:
    code = CODE.search(cleaned(line))
    return code.group(1) if code else ""


def shown(line: str, code: str) -> str:
    """The line from the code on, or from the name before a code in brackets."""
    text = cleaned(line)
    named = NAMED.search(text)
    return named.group(1) if named else text[text.index(code) :] if code else text


def messages(lines: List[str]) -> List[Message]:
    """The messages with an error code or a name with a code in brackets. Those that say something come first.

    A message ends before the next one and at a line of the tools. If it only says that there was an inner error, its
    next line is added.
    """
    blocks: List[List[str]] = []
    is_open = False
    for line in lines:
        text = cleaned(line)
        if code_of(line) or NAMED.search(text):
            blocks.append([text])
            is_open = True
        elif line.startswith(("[", "Traceback")):
            is_open = False
        elif is_open and not NOISE.search(text):
            blocks[-1].append(text)
    return sorted((message_of(block) for block in blocks), key=lambda message: (message.is_empty, message.is_inner))


def message_of(block: List[str]) -> Message:
    """The message of these lines, of which the first has the code."""
    code = code_of(block[0])
    text = shown(block[0], code)
    is_empty = bool(code) and not re.sub(r"[\s:!,.)\]]", "", INNER.sub("", text.partition(code)[2]))
    if is_empty and len(block) > 1:
        text, is_empty = f"{text.rstrip(' :')} {block[1]}", False
    return Message(text, code, block, is_empty, bool(INNER.search(code)))


def remedy_in(causes: Dict[str, str], lines: List[str]) -> str:
    """The remedy of the first cause that a line shows; empty if there is none."""
    return next((causes[cause] for cause in causes if any(re.search(cause, line) for line in lines)), "")


def lines_of(text: str) -> List[str]:
    """The lines with content. A line that has only the mark of a level is joined with the next line."""
    text = re.sub(r"(terminate called after [^\n]*)\n\s*what\(\): *", r"\1: ", text)
    joined = re.sub(r"^(\s*\[(?:ACL )?ERROR\])\s*\n", r"\1 ", text, flags=re.MULTILINE)
    joined = re.sub(r"(compiled using NumPy.* cannot be run in)\s*\n", r"\1 ", joined)
    return [line.strip() for line in joined.splitlines() if line.strip(" .")]


def errors_of(lines: List[str]) -> List[str]:
    """The lines that may be about an error: neither information nor warnings."""
    return [line for line in lines if not line.startswith(LEVELS) and not WARNING.match(line)]


def warnings_of(lines: List[str]) -> List[Message]:
    """CANN's messages in warnings, for an output that has no error."""
    return messages([line for line in lines if not line.startswith(LEVELS)])


def status_of(status: int) -> str:
    """The status, with the name of the signal that it stands for."""
    return f"status {status}" + "".join(f", {one.name}" for one in signal.Signals if one == status - 128)


def explain_ais_bench(text: str, status: int) -> Tuple[str, str]:
    """Returns (reason, remedy) of a failure, from the output of ais_bench and its status.

    The reason is what CANN says, with the remedy that fits it or the lines after it. Without a message of CANN it is a
    line of the tool or of Python.
    """
    if status == 124:
        return "it exceeded its time limit", "run npu-smi info, raise ais_bench.time_limit if the device is healthy"
    if status == 137:
        return "it was killed, probably out of memory", "free memory, then run the same make command again"
    lines = [line for line in lines_of(without_escapes(text)) if "Processing: " not in line]  # not its progress bar
    failures = errors_of(lines)
    said = messages(failures)
    errors = [cleaned(line) for line in failures if line.startswith("[ACL ERROR]") and cleaned(line)]
    errors += [line[line.index("[ERROR]") :] for line in failures if "[ERROR]" in line]
    errors += [line for line in failures if re.match(rf"[\w.]*Error\b|{CRASH}", line) or remedy_in(LOADER, [line])]
    said = said or ([] if errors else warnings_of(lines))
    roots = [cleaned(line) for line in failures if remedy_in(HOST, [line])]
    if roots and (not said or said[0].is_inner or remedy_in(AIS_BENCH, [said[0].text]) in ("", DEVICE)):
        code = f", then {said[0].code or said[0].text[:60]}" if said and roots[0] not in said[0].text else ""
        return f"{status_of(status)}, {roots[0][:300].rstrip('.')}{code}", remedy_in(HOST, roots[:1])
    known = [line for line in errors if remedy_in(AIS_BENCH, [line])]
    evidence = [[one.text] for one in said] + [one.block for one in said] + [[line] for line in known]
    remedy = next(filter(None, (remedy_in(AIS_BENCH, part) for part in evidence)), "")
    first = said[0].text if said else (known + errors + lines[-1:] + ["no output"])[0]
    if said and not remedy:
        remedy = next((RUN_CODES[starts] for starts in RUN_CODES if said[0].code.startswith(starts)), "")
    elif said and said[0].is_inner and known and not any(remedy_in(AIS_BENCH, one.block) for one in said):
        first = f"{known[0][:200].rstrip('.')}, then {said[0].code}"
    return f"{status_of(status)}, {first[:300]}", remedy or "run npu-smi info and make doctor"


def explain_atc(text: str, status: int, lacks_ops: bool = False) -> Tuple[str, str]:
    """Returns (reason, remedy) of a failure, from the output of atc and its status. The first error code after the line
    `ATC run failed` has priority. `lacks_ops`: the package of operators is needed and was not found."""
    if status == 124:
        return "it exceeded its time limit", STATUSES[124]
    if status == 127 and "libascend_hal.so" in text:
        return "the driver's libascend_hal.so is not found", "add the toolkit's devlib folder to LD_LIBRARY_PATH"
    text = without_escapes(text)
    flag = FLAG.search(text)
    if flag:
        return flag.group().strip(), "check atc.flags and the chip's line in params.yaml"
    before, _, after = text.partition("ATC run failed")
    after, lines = after.partition("\n")[2], lines_of(text)
    said = messages(errors_of(lines_of(after))) or messages(errors_of(lines_of(before)))
    known = [line for line in errors_of(lines) if remedy_in(ATC, [line])]
    errors = known or [line for line in errors_of(lines) if "ERROR" in line or re.match(CRASH, line)]
    said = said or ([] if errors else warnings_of(lines))
    if not said:
        errors = errors or lines[-1:] or ["no output"]
        default = OPS if lacks_ops else "make doctor, or set atc.log: debug"
        remedy = remedy_in(ATC, known[:1]) or STATUSES.get(status, default)
        return f"{status_of(status)}, {cleaned(errors[0])[:300]}", remedy
    message = said[0]
    roots = [line for line in errors_of(lines) if remedy_in(ATC_ROOTS, [line])]
    remedy = remedy_in(ATC, [message.text])
    if not remedy and roots and message.code.startswith(ROOTED):
        return f"{cleaned(roots[0])[:300].rstrip('.')}, then {message.code}", remedy_in(ATC_ROOTS, roots[:1])
    remedy = remedy or remedy_in(ATC, message.block)
    if not remedy and lacks_ops and message.code.startswith(NO_OPERATOR):
        remedy = OPS
    by_code = (ATC_CODES[starts] for starts in ATC_CODES if message.code.startswith(starts))
    return message.text[:300], remedy or next(by_code, "set atc.log: debug, run again")
