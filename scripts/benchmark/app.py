"""OpenVINO's benchmark_app, without the telemetry client of openvino, which `engines` switches off."""

from __future__ import annotations

import sys

import engines  # noqa: F401  before the first import of openvino

if __name__ == "__main__":
    from openvino.tools.benchmark.main import main

    sys.exit(main())
