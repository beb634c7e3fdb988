"""A fake engine with a device that tests define: FAKE_CHIP is its chip, FAKE_PROBLEM a problem with it."""

ENDING = "fake"
IN_PROCESS = False
LIMITS = ("atc.memory",)
