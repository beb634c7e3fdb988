"""The smallest engine, the worked example of scripts/engines/__init__.py. Tests copy it to scripts/engines/null.

Its compiled model holds nothing of the network, and its logits are an image's first values.
"""

ENDING = "null"
IN_PROCESS = True
