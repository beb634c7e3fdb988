"""The fake engine cannot compile."""

from __future__ import annotations

from _support.artifact import Record

from engines import CompileRequest


def compile_model(request: CompileRequest) -> Record:
    raise NotImplementedError
