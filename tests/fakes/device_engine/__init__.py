"""A fake engine whose device the tests set: FAKE_CHIP is the chip that it finds, FAKE_PROBLEM what is wrong with it."""

ENDING = "fake"
IN_PROCESS = False
LIMITS = ("atc.memory",)
