"""CPU, float32, by ONNX Runtime."""

ENDING = "onnx"
IN_PROCESS = True
PACKAGES = {"compile": ("onnx", "onnxruntime"), "run": ("onnxruntime",)}
