"""CPU, float32: ONNX Runtime."""

ENDING = "onnx"
IN_PROCESS = True
PACKAGES = {"compile": ("onnx", "onnxruntime"), "run": ("onnxruntime",)}
OPTIONS = ("tune",)
VALUES = {"tune": ("yes", "no")}
