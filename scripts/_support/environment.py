"""The environment of a command: variables that would change results are removed. Python 3.7, standard library only.

Libraries read them when they are loaded, later than this module. A result must not depend on the shell of its user,
because no record would show it: ONEDNN_DEFAULT_FPMATH_MODE=BF16 makes "float32" compute in bfloat16.
"""

from __future__ import annotations

import hashlib
import os
import site
import sys
from typing import Any, Dict, List

# Beginnings of the names: oneDNN, OpenMP, MKL, OpenBLAS and other BLAS, ONNX Runtime, OpenVINO, oneTBB, torch, numpy.
LIBRARIES = (
    *("ONEDNN_", "DNNL_", "MKLDNN_", "OMP_", "KMP_", "GOMP_", "LIBOMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_"),
    *("VECLIB_", "NUMEXPR_", "ORT_", "ONNXRUNTIME_", "OPENVINO_", "OV_", "TBB_", "ATEN_", "TORCH_", "PYTORCH_"),
    *("TORCHINDUCTOR_", "NPY_", "NUMPY_"),
)
# These do not change results: a folder for downloads, and torch_npu's switch for hosts where it cannot be imported.
HARMLESS = ("TORCH_HOME", "TORCH_DEVICE_BACKEND_AUTOLOAD", "TORCHINDUCTOR_CACHE_DIR")
# These act before Python starts, so they cannot be removed. Some hosts need them. Records name them.
AT_START = ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GLIBC_TUNABLES")

ignored: List[str] = []  # the names that this process had


def clean() -> None:
    """Removes the variables of LIBRARIES from this process, and so from the programs that it starts."""
    for name in sorted(os.environ):
        if name.upper().startswith(LIBRARIES) and name not in HARMLESS:
            ignored.append(name)
            del os.environ[name]


def at_start() -> Dict[str, Any]:
    """What acted before this command started, by name; empty if nothing did.

    {name: value} of the variables AT_START that are set; {name: {path, sha256}} of the modules that Python runs before
    a command, if the interpreter has them; {"user_site": {path: sha256}} of the .pth files with code in the user's own
    folder of packages. (Those of the interpreter's own folder come with its packages.)
    """
    found: Dict[str, Any] = {name: os.environ[name] for name in AT_START if os.environ.get(name)}
    for name in ("sitecustomize", "usercustomize"):
        path = getattr(sys.modules.get(name), "__file__", None)
        if path and os.path.isfile(path):
            with open(path, "rb") as stream:
                found[name] = {"path": path, "sha256": hashlib.sha256(stream.read()).hexdigest()}
    code = user_site_code()
    if code:
        found["user_site"] = code
    return found


def user_site_code() -> Dict[str, str]:
    """{path: sha256} of the .pth files with code in the user's folder of packages: the module site executes their lines
    that begin with `import`."""
    folder, found = site.getusersitepackages() if site.ENABLE_USER_SITE else "", {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if name.endswith(".pth") and os.path.isfile(path) and os.access(path, os.R_OK):
            with open(path, "rb") as stream:
                data = stream.read()
            if any(line.startswith((b"import ", b"import\t")) for line in data.splitlines()):
                found[path] = hashlib.sha256(data).hexdigest()
    return found
