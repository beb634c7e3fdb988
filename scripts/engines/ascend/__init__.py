"""Ascend NPU: CANN's atc compiles, ais_bench runs. Both are separate programs. Compiling needs no NPU."""

ENDING = "om"
IN_PROCESS = False
NEEDS = ("soc_version",)
OPTIONS = ("atc.precision_mode", "atc.flags")
LIMITS = ("atc.log", "atc.time_limit", "atc.memory", "ais_bench.time_limit")
