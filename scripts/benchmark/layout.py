"""The paths of the files in a ROOT that the bench reads or removes."""

from __future__ import annotations

from _support.artifact import Record, read_record

from pathlib import Path
from typing import NamedTuple

import engines
from engines import tuning
from formats.bins import FORMS
from network.spec import FLOAT32, NAME


def bins_of(bins: Path, options: str) -> Path:
    """The manifest.json of the bins that a chip with these options reads; `bins` is that of the float32 ones."""
    form = FORMS[engines.input_of(engines.options_of(options))]
    return bins.parent.with_name(form.folder) / bins.name if form.dtype != FLOAT32 else bins


class Root(NamedTuple):
    """A ROOT folder of make."""

    path: Path

    @property
    def archive(self) -> Path:
        return self.path / "data/archive.tar.gz"

    @property
    def weights(self) -> Path:
        return self.path / "models/checkpoint.pkl"

    @property
    def bins(self) -> Path:
        """manifest.json of the float32 bins."""
        return self.path / "data/bin/manifest.json"

    @property
    def labels(self) -> Path:
        return self.path / "data/labels.txt"

    @property
    def reference(self) -> Path:
        """manifest.json of the reference outputs."""
        return self.path / "results/reference/outputs/manifest.json"

    @property
    def onnx(self) -> Path:
        """The plain export."""
        return self.path / f"models/onnx/{NAME}.onnx"

    @property
    def optimized(self) -> Path:
        return self.path / f"models/optimized/{NAME}.onnx"

    @property
    def int8(self) -> Path:
        return self.path / f"models/int8/{NAME}.onnx"

    def model(self, chip: str, batch_size: object, ending: str) -> Path:
        """The compiled model of a chip."""
        return self.path / f"models/om/{chip}/{NAME}_bs{batch_size}.{ending}"

    def model_record(self, chip: str, batch_size: object) -> Record:
        return read_record(self.path / f"models/om/{chip}/bs{batch_size}.json")

    def prepare(self, chip: str, batch_size: int) -> None:
        """The choice for a compiled model on this machine, see engines/tuning.py. It is measured if it is not stored,
        as in a ROOT of another machine."""
        record = self.model_record(chip, batch_size)
        ending = engines.constants_of(record["provenance"]["engine"]).ENDING
        tuning.prepare(self.model(chip, batch_size, ending), record)

    def results(self, chip: str, batch_size: int) -> Path:
        """The folder with outputs and accuracy of a chip."""
        return self.path / f"results/{chip}/bs{batch_size}"

    def images(self) -> int:
        """The number of bins."""
        return int(read_record(self.bins)["count"])
