"""CPU, float32, bfloat16 or int8: OpenVINO.

Switches off the client openvino_telemetry. Without that, each `import openvino` sends a report to OpenVINO's maker and
writes files below ~/intel, and takes much longer: it loads an HTTP client.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # an import of it fails, which openvino expects

ENDING = "onnx"
IN_PROCESS = True
PACKAGES = {"compile": ("onnx", "openvino"), "run": ("openvino",)}
NEEDS = ("precision",)
OPTIONS = ("tune",)
VALUES = {"precision": ("f32", "bf16", "int8"), "tune": ("yes", "no")}
INT8 = "precision=int8"
STORED = "blob"
