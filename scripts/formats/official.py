"""Sizes and digests of the official files: CIFAR-10, and the checkpoint and source of the upstream repository.

They decide whether a page says "official", so they are not settings. Python 3.7, standard library only.
"""

from __future__ import annotations

from _support import artifact

from pathlib import Path
from typing import NamedTuple


class Official(NamedTuple):
    """A file that fetch.py downloads."""

    name: str  # of the file at its urls, with the folders below them
    kind: str  # of its digest: sha256, or "git blob", the id that git hash-object prints
    digest: str
    size: int = 0  # bytes; 0: unknown

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` has this digest."""
        return self.digest == self.actual(path)

    def actual(self, path: Path) -> str:
        """The digest of the file at `path`, of the same kind."""
        return artifact.digest(path) if self.kind == "sha256" else artifact.git_blob(path)


# CIFAR-10, python version. The digests of the batches are also those in torchvision.datasets.CIFAR10.
ARCHIVE = Official(
    "cifar-10-python.tar.gz", "sha256", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170498071
)
BATCHES_MD5 = {  # of members of the archive; other data are "own data"
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}
# github.com/tengshaofeng/ResidualAttentionNetwork-pytorch, at the commit in the urls of params.yaml.
CHECKPOINT = Official("model_92_sgd.pkl", "git blob", "3ab391d84690a68f733d42cfd0418df8f07c7775")
SOURCES = {  # of the upstream model, for make upstream
    "basic_layers": Official("model/basic_layers.py", "git blob", "043ef34629092f07c7b9120be9f9d3d41801ad35"),
    "attention_module": Official("model/attention_module.py", "git blob", "54138e461bd9da40a411e18735d4c0ce20cc0261"),
    "residual_attention_network": Official(
        "model/residual_attention_network.py", "git blob", "e947371c63a6da7c6c0a849f34ce76531fb66062"
    ),
}
FILES = {"archive": ARCHIVE, "checkpoint": CHECKPOINT, **SOURCES}  # by the name of --what of fetch.py
