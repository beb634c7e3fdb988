"""Splits a batch into requests, with one stream of requests for each thread. Python 3.7."""

from __future__ import annotations

import math
from typing import List

from engines import Choice

CHUNK = 8  # images in a request: within 4 % of 4 and 16 on both engines, where 1 and 64 are up to 15 % slower
REQUESTS = 2  # in flight for each stream: the next one waits while one is computed


def split_batch(batch_size: int, streams: int) -> Choice:
    """The default for a machine on which nothing was measured. Each stream gets as many requests, of at most CHUNK
    images.

    A stream runs on its own threads, because threads that share a request wait for each other after every layer.
    """
    streams = min(streams, batch_size)
    parts = streams * math.ceil(batch_size / (streams * CHUNK))
    return Choice(streams, math.ceil(batch_size / parts))


def candidates(batch_size: int, streams: int, threads: int) -> List[Choice]:
    """The choices that tuning.py measures: the default for at most `streams` streams, other sizes of a request, and
    fewer or more streams, at most one for each of `threads`. A batch is split into equal requests, and one request of
    each stream has together no more images than the batch, or each as few as by default."""
    default, most = split_batch(batch_size, streams), min(streams, threads)
    choices = [default]
    for count in (default.streams, most, most // 2, most // 4, most // 8, 1):
        for size in (default.images, CHUNK, CHUNK // 2, 2 * CHUNK, 4 * CHUNK, batch_size // max(1, count)):
            size = min(max(1, size), batch_size)
            choice = Choice(count, math.ceil(batch_size / math.ceil(batch_size / size)))
            if count and choice not in choices and count * choice.images <= max(batch_size, count * default.images):
                choices.append(choice)
    return choices
