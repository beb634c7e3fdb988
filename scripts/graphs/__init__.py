"""ONNX graphs: editing, optimization passes, int8, comparison of logits."""
