"""The smallest engine, an example for scripts/engines/__init__.py. Tests copy it to scripts/engines/null.

Its compiled model does not contain the network. Its logits are the first values of an image.
"""

ENDING = "null"
IN_PROCESS = True
