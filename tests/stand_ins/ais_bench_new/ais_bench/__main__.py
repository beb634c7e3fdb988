"""A stand-in for `python3 -m ais_bench`, the newer generation: see ais_bench_shared."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "ais_bench_shared"))
import stand_in_ais_bench

if __name__ == "__main__":
    stand_in_ais_bench.main("new")
