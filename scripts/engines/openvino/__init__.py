"""CPU, float32, bfloat16 or int8: OpenVINO."""

ENDING = "onnx"
IN_PROCESS = True
PACKAGES = {"compile": ("onnx", "openvino"), "run": ("openvino",)}
NEEDS = ("precision",)
OPTIONS = ("tune",)
VALUES = {"precision": ("f32", "bf16", "int8"), "tune": ("yes", "no")}
INT8 = "precision=int8"
STORED = "blob"
