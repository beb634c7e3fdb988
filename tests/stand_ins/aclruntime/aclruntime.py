"""A stand-in for the C++ module aclruntime (docs/ascend-tools.md#ais-bench-aclruntime), for run modes array and tensor.

The vendor's own front ends of both generations run with it. It computes by ONNX Runtime, from the graph that a stand-in
.om names.

STAND_IN_ACLRUNTIME=old or new (default) is the generation: texts, form of the times, and whether lines are flushed.
STAND_IN_DEVICES (default 8) is the number of devices. STAND_IN_AIS_BENCH=load, memory or slice fails to load a model
for one of REASONS; =numpy fails at import; =cache computes a batch that --loop repeats only once; =remember computes
a batch only once if it comes again later; =wrong reverses the logits.
"""

from __future__ import annotations

import atexit
import base64
import ctypes
import json
import os
import time
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

OLD = os.environ.get("STAND_IN_ACLRUNTIME") == "old"
FAULT = os.environ.get("STAND_IN_AIS_BENCH", "")
LIBC = ctypes.CDLL(None)
STAMP = "[PID: 7] 2026-01-31-12:00:00.000.001"
REASONS = {  # docs/ascend-tools.md#cann-errors
    "load": f"EE1001: {STAMP} The argument is invalid.Reason: ModelCheckCompatibility failed, supported "
    "socVersion=Ascend910B2, but the model socVersion=Ascend910B (a stand-in's)\n        Solution: see the manual.",
    "memory": f"EZ9999: Inner Error!\nEZ9999: {STAMP} rtMalloc failed, out of memory, ret=207001 (a stand-in's)",
    "slice": "ACL_ERROR_RT_TASK_TYPE_NOT_SUPPORT(507009): task type not support (a stand-in's)",
}

if FAULT == "numpy":
    raise ImportError("numpy.core.multiarray failed to import (a stand-in's fault)")


def say(text: str, level: str = "INFO") -> None:
    """Prints a line by C's stdout, like the real module. The older generation does not flush it: it comes late, or is
    lost if the process ends by os._exit (the workers of several devices) or a signal."""
    LIBC.printf(b"%s", f"[{level}] {text}\n".encode())
    if not OLD:
        LIBC.fflush(None)


class Runtime:
    """The devices and models that a process has opened."""

    devices: list[int] = []
    sessions: weakref.WeakSet[InferenceSession] = weakref.WeakSet()
    pid = 0

    @classmethod
    def open(cls, device: int) -> None:
        if cls.pid != os.getpid():
            cls.devices, cls.pid = [], os.getpid()
            atexit.register(cls.close)
            say("acl init success")
            say("(aclruntime is a stand-in)")
        if device in cls.devices:
            return
        if device >= int(os.environ.get("STAND_IN_DEVICES", "8")):
            reason = "EL0003: The argument is invalid. Reason: rtSetDevice failed, invalid device (a stand-in's)"
            LIBC.printf(b"%s\n", (reason if OLD else f"[ACL ERROR] {reason}").encode())
            say(f"acl open device {device} failed", "ERROR")
            if not OLD:
                say("create context failed. ret=107001", "ERROR")
            raise RuntimeError("[107001][Error code unknown] ")
        cls.devices.append(device)
        say(f"open device {device} success")

    @classmethod
    def close(cls) -> None:
        if cls.pid != os.getpid():
            return
        for session in cls.sessions:
            session.free_resource()
        for device in cls.devices:
            if OLD:
                say("end to destroy context")
            say(f"end to reset device {'is ' if OLD else ''}{device}")
        say("end to finalize acl")
        cls.pid = 0


class session_options(SimpleNamespace):  # the name in the real module
    log_level = 2
    loop = 1
    acl_json_path = ""


class BaseTensor:
    """Bytes in the host's memory, by their address; read when a model runs."""

    def __init__(self, buf: int, size: int) -> None:
        self.buf, self.size = buf, size

    def bytes(self) -> bytes:
        return ctypes.string_at(self.buf, self.size)


class Tensor:
    """An array, on the host or on a device."""

    def __init__(self, array: Any, on_device: bool = False) -> None:
        self.array = np.array(array)
        self.on_device = on_device
        self.shape = list(self.array.shape)
        self.size = self.array.nbytes

    def bytes(self) -> bytes:
        return self.array.tobytes()

    def to_device(self, device: int) -> None:
        MemorySummary.H2D_time_list.append(0.01)
        self.on_device = True

    def to_host(self) -> None:
        MemorySummary.D2H_time_list.append(0.01)
        self.on_device = False

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self.on_device:
            raise RuntimeError("tensor is in npu. can't convert to numpy array")
        return self.array


class MemorySummary:
    """Times of the copies between host and device in ms, for the whole process."""

    H2D_time_list: list[float] = []
    D2H_time_list: list[float] = []

    def reset(self) -> None:
        MemorySummary.H2D_time_list.clear()
        MemorySummary.D2H_time_list.clear()


class InferenceSession:
    """A loaded stand-in .om."""

    loaded = False

    def __init__(self, path: str, device: int, options: Any) -> None:
        Runtime.open(device)
        if not OLD:
            say("create new context")
        try:
            if FAULT in REASONS:
                raise ValueError
            content = json.loads(Path(path).read_text("utf-8"))
            model, self.shape = base64.b64decode(content["onnx"]), [int(n) for n in content["shape"]]
            self.aipp: dict[str, str] = content.get("aipp", {})
        except (OSError, ValueError, KeyError, TypeError):
            reason = REASONS.get(FAULT, REASONS["load"])
            LIBC.printf(b"%s\n", (reason if OLD else f"[ACL ERROR] {reason}").encode())
            say(f"load model from file failed, model file is {path}", "ERROR")
            say("Check failed:processModel->LoadModelFromFile(modelPath), ret:1\n", "WARN")
            raise RuntimeError("[1][ACL: invalid parameter] ") from None
        say(f"load model {path} success")
        say("create model description success")
        import onnxruntime  # here, so that ais_bench forks before it starts threads

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        self.kept, self.zero = options, time.time()
        self.times: list[Any] = []
        self.known: dict[bytes, Any] = {}  # of the fault remember
        self.loaded, self.pid = True, os.getpid()
        Runtime.sessions.add(self)

    @staticmethod
    def described(name: str, shape: list[int], kind: str = "float32") -> SimpleNamespace:
        size = np.dtype(kind).itemsize * int(np.prod(shape))
        return SimpleNamespace(name=name, shape=shape, size=size, realsize=size, datatype=f"dtype.{kind}", format=0)

    def get_inputs(self) -> list[SimpleNamespace]:
        name, (images, channels, height, width) = self.session.get_inputs()[0].name, self.shape
        if self.aipp:
            return [self.described(name, [images, height, width, channels], "uint8")]
        return [self.described(name, self.shape)]

    def images_of(self, data: bytes) -> Any:
        """The float32 images of an input; AIPP computes in fp16 (docs/ascend-tools.md#aipp)."""
        if not self.aipp:
            return np.frombuffer(data, np.float32).reshape(self.shape)
        images, channels, height, width = self.shape
        pixels = np.frombuffer(data, np.uint8).reshape(images, height, width, channels)
        mean, low, factor = (
            np.array([self.aipp[f"{name}_{channel}"] for channel in range(channels)], np.float16)
            for name in ("mean_chn", "min_chn", "var_reci_chn")
        )
        values = (pixels.astype(np.float16) - mean - low) * factor
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2).astype(np.float32))

    def get_outputs(self) -> list[SimpleNamespace]:
        return [self.described(self.session.get_outputs()[0].name, [self.shape[0], 10])]

    def options(self) -> Any:
        return self.kept

    def set_staticbatch(self) -> None:
        pass

    def set_context(self) -> None:
        pass

    def set_dynamic_batchsize(self, size: int) -> None:
        say("the dynamic_batch_size parameter is not specified for model conversion", "ERROR")
        raise RuntimeError("[-1][ACL: general failure] ")

    def get_max_dym_batchsize(self) -> int:
        return 0

    def get_dym_aipp_input_exist(self) -> int:
        return 0

    def run(self, names: list[str], feeds: list[Any]) -> list[Tensor]:
        needed = self.get_inputs()[0]
        if feeds[0].size != needed.realsize:
            check = "Check" if OLD else "check"
            sizes = f"in size:{feeds[0].size} needsize:{needed.realsize} not match"
            say(f"{check} i:0 name:{needed.name} {sizes}", "ERROR")
            say(f"{check} {'InVector' if OLD else 'input vector'} failed ret:-1", "ERROR")
            raise RuntimeError("[-1][ACL: general failure] ")
        if isinstance(feeds[0], BaseTensor):
            MemorySummary.H2D_time_list.append(0.01)
        images = self.images_of(feeds[0].bytes())
        for i in range(self.kept.loop):
            begin = time.time()
            key = feeds[0].bytes() if FAULT == "remember" and self.kept.loop == 1 else b""
            if key in self.known:
                time.sleep(0.001)
                logits = self.known[key]
            elif FAULT != "cache" or i == 0:
                logits = self.session.run(names, {needed.name: images})[0]
            else:
                time.sleep(0.001)  # float32 ms do not resolve shorter times some seconds after loading
            if key:
                self.known[key] = logits
            logits = logits[::-1] if FAULT == "wrong" else logits
            begin, end = (float(np.float32(1000 * (t - self.zero))) for t in (begin, time.time()))  # float32 ms
            self.times.append(end - begin if OLD else [begin, end])
            if self.kept.loop > 1:
                LIBC.printf(b"%s", f"\rloop inference exec: ({i + 1}/{self.kept.loop})".encode())
                LIBC.fflush(None)
        if self.kept.loop > 1:
            LIBC.printf(b"\n")
        return [Tensor(logits, on_device=True)]

    def sumary(self) -> SimpleNamespace:  # the spelling of the real module
        return SimpleNamespace(exec_time_list=self.times)

    def reset_sumaryinfo(self) -> None:
        self.times = []

    def free_resource(self) -> None:
        if self.loaded and self.pid == os.getpid():
            say("unload model success, model Id is 1")
        self.loaded = False

    __del__ = free_resource

    def finalize(self: Any = None) -> None:
        """A class method in the newer generation; in the older one a method that also frees its session."""
        if self is not None:
            self.free_resource()
        Runtime.close()
