"""Whatever servers answer, a download has the right digest, or ends with the reasons."""

from __future__ import annotations

from _support.web import PermanentError, RetryableError

import hashlib
import http.client
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from hypothesis import example, given
from hypothesis import strategies as st

import fetch
from damage import Damage, damages, outcome
from fuzzing import examples

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
URLS = ["http://one/file", "http://two/file"]


class Answer(NamedTuple):
    """What a server does at one request."""

    status: int
    span: str  # of Content-Range; {begin} is what was asked for
    length: int | None
    body: Damage
    end: str  # of the body
    is_part: bool  # the body begins where it was asked to


class Response:
    def __init__(self, answer: Answer, begin: int) -> None:
        body = answer.body.of({"content": CONTENT})
        self.status, self.length, self.end = answer.status, answer.length, answer.end
        self.left = body[begin:] if answer.is_part else body
        self.headers = {"Content-Range": answer.span.format(begin=begin)} if answer.span else {}

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read1(self, size: int) -> bytes:
        block, self.left = self.left[: min(size, 3000)], self.left[min(size, 3000) :]
        if not block and self.end == "reset":
            raise ConnectionResetError("reset")
        if not block and self.end == "incomplete":
            raise http.client.IncompleteRead(b"")
        return block


SPANS = st.sampled_from(
    ["", "bytes {begin}-10239/10240", "bytes {begin}-10239/*", "bytes 0-1/10240", "bytes 99999-9/9", "x", "bytes 9-9/²"]
)
ANSWERS = st.builds(
    Answer,
    st.sampled_from([200, 206, 206, 206, 416, 403, 500]),
    SPANS,
    st.sampled_from([None, 0, 1, len(CONTENT), 1 << 60]),
    damages("content"),
    st.sampled_from(["close", "reset", "incomplete"]),
    st.booleans(),
)


@given(st.lists(ANSWERS, min_size=1, max_size=5), st.booleans(), damages("content"))
@examples(50)
@example([Answer(206, "bytes {begin}-10239/10240", None, Damage("content", []), "close", True)], True, Damage(b"", []))
def test_a_download_has_the_right_digest_or_ends(
    scratch: Path, answers: list[Answer], is_known: bool, earlier: Damage
) -> None:
    part, requests = scratch / "part", []
    part.write_bytes(earlier.of({"content": CONTENT}))

    def open_url(url: str, begin: int) -> Any:
        answer = answers[len(requests) % len(answers)]
        requests.append(url)
        assert len(requests) < 100, "it does not end"
        if answer.status in (403, 416, 500):
            raise (PermanentError if answer.status == 403 else RetryableError)(f"HTTP {answer.status}")
        return Response(answer, begin)

    def fault_of(path: Path) -> str:
        return "" if hashlib.sha256(path.read_bytes()).hexdigest() == SHA256 else "wrong bytes"

    def download() -> str:
        with mock.patch.object(fetch, "open_url", open_url), mock.patch.object(time, "sleep", lambda _: None):
            return fetch.download([*URLS], part, len(CONTENT) if is_known else 0, fault_of, 20, 3)

    url = outcome(download, PermanentError, removes=True)
    if url is not None:
        assert url in URLS and part.read_bytes() == CONTENT
