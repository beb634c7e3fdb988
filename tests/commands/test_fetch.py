"""Downloads, good and bad, from a server on this machine."""

from __future__ import annotations

from _support import artifact

import hashlib
import os
import pty
import random
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import SCRIPTS, Project, environment, refused, run
from formats import held, official
from formats.cifar10 import read_member

DATA = random.Random(1).randbytes(3 << 20)
SHA256 = hashlib.sha256(DATA).hexdigest()
WRONG = bytes(len(DATA))


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, self.headers.get("Range"), server.server_port))
        self.close_connection = True
        server.behaviours[self.path.rsplit("/", 1)[1]](self)

    def log_message(self, *_: object) -> None:
        pass

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def range(self) -> int:
        return int((self.headers.get("Range") or "bytes=0-")[6:-1])


def whole(answer: Answer, data: bytes = DATA, upto: int | None = None, ranges: bool = True) -> None:
    """The file, or what was asked for of it, with its connection closed after `upto` bytes."""
    begin = answer.range() if ranges else 0
    if begin >= len(data):
        answer.head(416, Content_Length=0)
    elif begin:
        answer.head(206, Content_Length=len(data) - begin, Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")
    else:
        answer.head(200, Content_Length=len(data))
    answer.wfile.write(data[begin : len(data) if upto is None else max(begin, upto)])


def status(code: int, **headers: object) -> Callable[[Answer], None]:
    return lambda answer: answer.head(code, Content_Length=0, **headers)


def in_turn(*behaviours: Callable[[Answer], None]) -> Callable[[Answer], None]:
    """The first behaviour for the first request, and so on; the last one for all others."""
    left = list(behaviours)
    return lambda answer: (left.pop(0) if len(left) > 1 else left[0])(answer)


def trickle(answer: Answer) -> None:
    answer.head(200, Content_Length=len(DATA))
    for byte in DATA[:100]:
        answer.wfile.write(bytes([byte]))
        time.sleep(0.1)


def endless(answer: Answer) -> None:
    answer.head(200)
    for _ in range(2000):
        answer.wfile.write(bytes(1 << 16))


def slow_head(answer: Answer) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-" + b"x" * 100:
        answer.wfile.write(bytes([byte]))
        time.sleep(0.1)


def error_page(answer: Answer) -> None:
    answer.head(200, Content_Type="text/html", Connection="close")
    answer.wfile.write(b"<html>please log in</html>")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[tuple[str, str | None, int]] = []
        self.behaviours: dict[str, Callable[[Answer], None]] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_: object) -> None:  # a client that was killed
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    yield served
    served.shutdown()
    served.server_close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data/archive.tar.gz"


# Runs fetch.py with another digest instead of that of the official archive.
EXPECTING = """
import sys
kind, digest, size, *sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
import fetch
from formats import official
official.FILES["archive"] = official.Official("f", kind, digest, int(size))
fetch.main()
"""


def fetch_of(kind: str, digest: str, size: int = 0) -> tuple[object, ...]:
    """The command for a file with this digest."""
    return (sys.executable, "-c", EXPECTING, kind, digest, size, SCRIPTS / "fetch.py", "--what", "archive")


FETCH = (*fetch_of("sha256", SHA256, len(DATA)), "--timeout", 20, "--tries", 2)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def without_progress(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    done.stderr = "".join(line for line in done.stderr.splitlines(True) if " MB/s, " not in line)
    return done


def fetch(out: Path, *urls: str, **more: str) -> subprocess.CompletedProcess[str]:
    return without_progress(run(*FETCH, "--urls", *urls, "--out", out, **more))


def nothing(answer: Answer) -> None:
    time.sleep(5)


def proved(done: subprocess.CompletedProcess[str], out: Path) -> None:
    """Holds that the file is whole, recorded and alone."""
    assert done.returncode == 0, done.stdout + done.stderr
    assert out.read_bytes() == DATA
    record = artifact.read_record(out.with_name("archive.json"))
    assert (record["sha256"], record["origin"]) == (SHA256, "official")
    assert sorted(path.name for path in out.parent.iterdir()) == [".archive.tar.gz.lock", "archive.json", out.name]


def ranges(server: Server) -> list[str | None]:
    return [asked[1] for asked in server.asked]


def test_a_file_is_had_and_proved_and_not_fetched_again(server: Server, out: Path) -> None:
    server.behaviours["f"] = whole
    proved(fetch(out, f"{server.url}/f"), out)
    proved(fetch(out, f"{server.url}/f"), out)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (status(404), ["HTTP 404 Not Found"]),
        (status(403), ["HTTP 403 Forbidden"]),
        (status(503), ["HTTP 503 Service Unavailable"]),
        (status(302, Location="/f"), ["redirect loop"]),
        (status(302, Location="file:///etc/passwd"), ["HTTP 302, redirect refused"]),
        (status(302, Location="http://127.0.0.1:9/f"), ["Connection refused"]),
        (lambda answer: whole(answer, upto=len(DATA) // 2, ranges=False), ["interrupted after 1572864 bytes"]),
        (lambda answer: whole(answer, WRONG), ["wrong bytes (sha256 "]),
        (lambda answer: whole(answer, b"an error page"), ["another file, of 13 bytes, not 3145728"]),
        (error_page, ["another file, of 26 bytes, not 3145728"]),
        (endless, ["wrong bytes (sha256 "]),
        (lambda answer: None, ["closed connection without response"]),
        (lambda answer: answer.wfile.write(b"220 ftp ready\r\n"), ["220 ftp ready"]),
    ],
)
def test_a_bad_download_is_one_line_that_says_where_to_put_the_file(
    server: Server, out: Path, behaviour: Callable[[Answer], None], words: list[str]
) -> None:
    server.behaviours["f"] = behaviour
    done = fetch(out, f"{server.url}/f")
    refused(done, f"fetch.py: {out}: not downloaded (127.0.0.1:", f"{server.url}/f", f"sha256 {SHA256}", *words)
    assert not out.exists()
    assert not out.with_name("archive.json").exists()


@pytest.mark.parametrize("behaviour", [trickle, slow_head, nothing])
def test_a_server_that_is_too_slow_is_left(server: Server, out: Path, behaviour: Callable[[Answer], None]) -> None:
    server.behaviours["f"] = behaviour
    slow = run(*FETCH, "--timeout", 1, "--urls", f"{server.url}/f", "--out", out)
    refused(slow, f"{out}: not downloaded (127.0.0.1:", "less than 64 KiB in 1 s")
    assert not out.exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:9/f", ["127.0.0.1:9: Connection refused"]),
        ("http://nowhere.invalid/f", ["nowhere.invalid"]),
    ],
)
def test_no_way_to_a_host_is_one_line(out: Path, url: str, words: list[str]) -> None:
    refused(fetch(out, url), *words)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://[::1/f", "http://127.0.0.1:port/f", "http:///f", "f"])
def test_a_url_of_no_web_server_is_a_wrong_call(out: Path, url: str) -> None:
    refused(fetch(out, url), f"{url} must be an http or https url", status=2)


def test_a_password_in_a_url_is_refused_and_not_shown(out: Path) -> None:
    done = fetch(out, "http://user:secret@127.0.0.1:9/f")
    refused(done, "…@127.0.0.1:9 must be an http or https url without a password", status=2)
    assert "secret" not in done.stdout + done.stderr


@pytest.mark.parametrize("first", [status(503), status(429), lambda answer: None], ids=["503", "429", "closed"])
def test_a_passing_fault_is_tried_again(server: Server, out: Path, first: Callable[[Answer], None]) -> None:
    server.behaviours["f"] = in_turn(first, whole)
    done = fetch(out, f"{server.url}/f")
    proved(done, out)
    assert "retry in 1 s" in done.stdout


def test_a_redirect_is_followed(server: Server, out: Path) -> None:
    server.behaviours.update(f=status(301, Location="/g"), g=status(307, Location=f"{server.url}/h"), h=whole)
    proved(fetch(out, f"{server.url}/f"), out)


def test_the_next_url_serves_when_the_first_cannot(server: Server, out: Path) -> None:
    server.behaviours.update(a=status(404), b=lambda answer: whole(answer, WRONG), c=whole)
    done = fetch(out, "http://127.0.0.1:9/x", *(f"{server.url}/{name}" for name in "abc"))
    proved(done, out)
    assert "again" not in done.stdout


def test_a_broken_download_goes_on_where_it_stopped_from_the_next_host(server: Server, out: Path) -> None:
    server.behaviours.update(a=lambda answer: whole(answer, upto=2 << 20), b=whole)
    proved(fetch(out, f"{server.url}/a", f"{server.url}/b"), out)
    assert ranges(server) == [None, f"bytes={2 << 20}-"]


def test_a_slow_host_that_breaks_off_again_and_again_gets_there(server: Server, out: Path) -> None:
    step = len(DATA) // 4 + 2**20 // 4 + 1
    server.behaviours["f"] = lambda answer: whole(answer, upto=answer.range() + step)
    proved(fetch(out, f"{server.url}/f"), out)
    assert len(server.asked) == 3


def test_a_host_that_adds_wrong_bytes_is_dropped_and_not_the_one_before_it(server: Server, out: Path) -> None:
    server.behaviours.update(
        slow=lambda answer: whole(answer, upto=answer.range() + (1 << 20)),
        liar=lambda answer: whole(answer, DATA[:-1] + b"!"),
    )
    proved(fetch(out, f"{server.url}/slow", f"{server.url}/liar"), out)
    assert [asked[0] for asked in server.asked].count("/liar") == 2  # after another's bytes, and alone


def test_a_liar_that_cannot_be_caught_alone_does_not_go_on_for_ever(server: Server, out: Path) -> None:
    server.behaviours.update(
        slow=lambda answer: whole(answer, upto=1 << 20),
        liar=lambda answer: whole(answer, DATA[:-1] + b"!") if answer.range() else status(503)(answer),
    )
    refused(fetch(out, f"{server.url}/slow", f"{server.url}/liar"), "not downloaded (127.0.0.1:")


def test_a_host_is_not_blamed_for_the_garbage_of_the_one_before_it(server: Server, out: Path) -> None:
    server.behaviours.update(garbage=lambda answer: whole(answer, WRONG, upto=1 << 20), good=whole)
    proved(fetch(out, f"{server.url}/garbage", f"{server.url}/good"), out)


def chunked_without_an_end(answer: Answer) -> None:
    answer.head(200, Transfer_Encoding="chunked")
    answer.wfile.write(b"%x\r\n" % len(DATA) + DATA + b"\r\n")


def less_than_asked(answer: Answer) -> None:
    begin = answer.range()
    end = min(begin + (1 << 20), len(DATA)) - 1
    answer.head(206, Content_Length=end + 1 - begin, Content_Range=f"bytes {begin}-{end}/{len(DATA)}")
    answer.wfile.write(DATA[begin : end + 1])


@pytest.mark.parametrize("behaviour", [chunked_without_an_end, less_than_asked])
def test_a_file_is_whole_however_the_server_sends_it(
    server: Server, out: Path, behaviour: Callable[[Answer], None]
) -> None:
    server.behaviours["f"] = behaviour
    proved(fetch(out, f"{server.url}/f"), out)


@pytest.mark.parametrize(
    "behaviour",
    [
        status(416),
        status(206, Content_Range=f"bytes {'9' * 5000}-/7"),
        status(302, Location="ftp://127.0.0.1/f"),
        status(302, Location="http://user:secret@127.0.0.1:9/f"),
        lambda answer: (answer.head(302, Location="/z"), [answer.wfile.write(bytes(1 << 16)) for _ in range(99)]),
        lambda answer: answer.wfile.write(b"HTTP/1.1 404 \xe2\x80\xa6\x1b[2J" + b"x" * 60000 + b"\r\n\r\n"),
        lambda answer: whole(answer, b"short"),
    ],
    ids=["416", "absurd range", "to ftp", "to a password", "long", "odd words", "short"],
)
def test_a_strange_host_costs_neither_a_byte_nor_the_next_url(
    server: Server, out: Path, behaviour: Callable[[Answer], None]
) -> None:
    server.behaviours.update(a=lambda answer: whole(answer, upto=2 << 20), strange=behaviour, z=whole)
    for order in ("strange", "z"), ("a", "strange", "z"):
        out.unlink(missing_ok=True)
        server.asked.clear()
        done = fetch(out, *(f"{server.url}/{name}" for name in order), PYTHONIOENCODING="ascii:strict")
        proved(done, out)
        assert "secret" not in done.stdout
        assert "\x1b" not in done.stdout
        assert len(done.stdout) < 3000
        assert server.asked[-1][1] == (None if len(order) == 2 else f"bytes={2 << 20}-")


def test_a_308_is_followed(server: Server, out: Path) -> None:
    server.behaviours.update(f=status(308, Location="/g"), g=whole)
    proved(fetch(out, f"{server.url}/f"), out)


@pytest.mark.parametrize(
    "proxy", ["http://[::1", "user:secret@127.0.0.1:9", "http:///u:secret@x", "socks5://u:secret@h:1"]
)
def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(out: Path, proxy: str) -> None:
    done = fetch(out, "http://cifar.invalid/f", http_proxy=proxy)
    refused(done, "not downloaded (cifar.invalid: ", "proxy")
    assert "secret" not in done.stdout + done.stderr


def test_a_proved_download_is_not_fetched_again(server: Server, out: Path) -> None:
    out.parent.mkdir()
    (out.parent / f"download.tmp.{SHA256[:16]}").write_bytes(DATA)  # killed before it got its name
    proved(fetch(out, f"{server.url}/f"), out)
    assert server.asked == []


def test_a_right_file_of_unknown_size_is_whole_though_the_server_never_ends_it(server: Server, out: Path) -> None:
    def open_ended(answer: Answer) -> None:
        if answer.range():
            return answer.head(416, Content_Length=0)
        answer.head(200)
        answer.wfile.write(DATA)
        return time.sleep(5)

    server.behaviours["f"] = open_ended
    (out.parent.parent / "copy").write_bytes(DATA)
    blob = run("git", "hash-object", out.parent.parent / "copy").stdout.strip()
    flags = ("--timeout", 2, "--tries", 2, "--urls", f"{server.url}/f", "--out", out)
    proved(run(*fetch_of("git blob", blob), *flags), out)


def test_a_half_download_goes_when_the_file_is_put_by_hand(out: Path) -> None:
    out.parent.mkdir()
    part = out.parent / f"download.tmp.{SHA256[:16]}"
    part.write_bytes(DATA[:1000])
    out.write_bytes(DATA)
    assert fetch(out, "http://127.0.0.1:9/f").returncode == 0
    assert not part.exists()


def test_a_link_to_a_shared_file_becomes_a_copy_of_our_own(out: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.write_bytes(DATA)
    os.utime(shared, (1, 1))
    out.parent.mkdir()
    out.symlink_to(shared)
    assert fetch(out, "http://127.0.0.1:9/f").returncode == 0
    assert (out.is_symlink(), out.read_bytes() == DATA) == (False, True)
    assert shared.stat().st_mtime == 1


def test_what_is_no_file_at_an_inputs_path_is_one_line(out: Path) -> None:
    out.mkdir(parents=True)
    refused(fetch(out, "http://127.0.0.1:9/f"), f"{out}: a folder, not a file")
    out.rmdir()
    os.mkfifo(out)
    refused(fetch(out, "http://127.0.0.1:9/f"), f"{out}: not a file")


def test_a_server_without_ranges_costs_no_byte_that_is_there(server: Server, out: Path) -> None:
    server.behaviours["f"] = in_turn(
        lambda answer: whole(answer, upto=2 << 20),
        lambda answer: whole(answer, upto=1 << 20, ranges=False),
        lambda answer: whole(answer, ranges=False),
    )
    done = run(*FETCH, "--tries", 3, "--urls", f"{server.url}/f", "--out", out)
    proved(done, out)
    assert ranges(server) == [None, f"bytes={2 << 20}-", f"bytes={2 << 20}-"]


@pytest.mark.parametrize("length", [2 << 20, len(DATA), len(DATA) + 1], ids=["short", "equal", "long"])
def test_a_wrong_beginning_from_an_earlier_run_is_thrown_away(server: Server, out: Path, length: int) -> None:
    server.behaviours["f"] = whole
    out.parent.mkdir()
    (out.parent / f"download.tmp.{SHA256[:16]}").write_bytes(bytes(length))
    proved(fetch(out, f"{server.url}/f"), out)


def test_a_download_whose_process_was_killed_goes_on(server: Server, out: Path) -> None:
    def first(answer: Answer) -> None:
        whole(answer, upto=2 << 20)
        time.sleep(1)

    server.behaviours["f"] = in_turn(first, whole)
    command = [*FETCH, "--urls", f"{server.url}/f", "--out", out]
    killed = subprocess.Popen([str(word) for word in command], env=environment(), stdout=subprocess.DEVNULL)
    part = out.parent / f"download.tmp.{SHA256[:16]}"
    while killed.poll() is None and not (part.is_file() and part.stat().st_size > 2**20):
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert [path.name for path in out.parent.iterdir() if ".tmp." not in path.name] == [".archive.tar.gz.lock"]
    begin = part.stat().st_size
    proved(fetch(out, f"{server.url}/f"), out)
    assert ranges(server) == [None, f"bytes={begin}-"]


def test_two_at_once_download_once(server: Server, out: Path) -> None:
    def slow(answer: Answer) -> None:
        time.sleep(0.5)
        whole(answer)

    server.behaviours["f"] = slow
    command = [*FETCH, "--urls", f"{server.url}/f", "--out", out]
    both = [subprocess.Popen([str(word) for word in command], env=environment()) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(server.asked) == 1
    assert out.read_bytes() == DATA


def test_a_full_disk_is_one_line_and_the_download_goes_on_afterwards(server: Server, out: Path) -> None:
    server.behaviours["f"] = whole
    words = [*FETCH, "--urls", f"{server.url}/f", "--out", out]
    command = shlex.join(str(word) for word in words)
    refused(run("bash", "-c", f"ulimit -f 2048; exec {command}"), str(out), "run the same command again")
    assert not out.exists()
    proved(fetch(out, f"{server.url}/f"), out)
    assert ranges(server) == [None, f"bytes={2 << 20}-"]


def test_the_mirror_is_asked_first(server: Server, out: Path) -> None:
    server.behaviours.update({"f.gz": whole, "nothing": status(404)})
    for mirror in (f"{server.url}/folder", f"{server.url}/folder/", f"{server.url}/folder/f.gz"):
        server.asked.clear()
        out.unlink(missing_ok=True)
        proved(run(*FETCH, "--urls", f"{server.url}/f.gz", "--mirror", mirror, "--out", out), out)
        assert [asked[0] for asked in server.asked] == ["/folder/f.gz"]
    out.unlink()
    broken = "http://127.0.0.1:9/folder"
    proved(run(*FETCH, "--urls", f"{server.url}/f.gz", "--mirror", broken, "--out", out), out)


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(server: Server, out: Path, name: str) -> None:
    server.behaviours["f"] = whole
    done = fetch(out, "http://cifar.invalid/f", **{name: f"http://user:secret@127.0.0.1:{server.server_port}"})
    proved(done, out)
    assert server.asked[0][0] == "http://cifar.invalid/f"


def test_no_proxy_is_honoured_and_a_dead_proxy_is_named_without_its_password(server: Server, out: Path) -> None:
    server.behaviours["f"] = whole
    dead = "http://user:secret@127.0.0.1:9"
    done = fetch(out, f"{server.url}/f", http_proxy=dead)
    refused(done, "Connection refused (through the proxy 127.0.0.1:9)")
    assert "secret" not in done.stdout + done.stderr
    proved(fetch(out, f"{server.url}/f", http_proxy=dead, no_proxy="127.0.0.1"), out)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_ca_bundle_of_the_environment_is_honoured(server: Server, out: Path, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    name = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    made = run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, *name)
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.behaviours["f"] = whole
    url = f"{server.url.replace('http:', 'https:')}/f"
    none = {"SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
    refused(fetch(out, url, **none), "certificate not trusted", "SSL_CERT_FILE")
    refused(fetch(out, url, **{**none, "CURL_CA_BUNDLE": "/no/such"}), "CURL_CA_BUNDLE=/no/such: not a CA bundle")
    for variable in none:
        proved(fetch(out, url, **{**none, variable: str(cert)}), out)
        out.unlink()


def test_what_was_put_by_hand_stays_and_is_known_by_its_digest(out: Path) -> None:
    out.parent.mkdir()
    for data, origin in ((DATA, "official"), (b"my own", "given")):
        out.with_name("archive.json").unlink(missing_ok=True)
        out.write_bytes(data)
        done = fetch(out, "http://127.0.0.1:9/f")
        assert done.returncode == 0
        assert (f"{out}: found there, not the official file: used as your own" in done.stdout) == (origin == "given")
        assert out.read_bytes() == data
        assert artifact.read_record(out.with_name("archive.json"))["origin"] == origin


def test_a_git_blob_id_proves_as_git_says(server: Server, out: Path, tmp_path: Path) -> None:
    server.behaviours["f"] = whole
    (tmp_path / "copy").write_bytes(DATA)
    blob = run("git", "hash-object", tmp_path / "copy").stdout.strip()
    flags = ("--timeout", 20, "--tries", 1, "--urls", f"{server.url}/f", "--out", out)
    done = without_progress(run(*fetch_of("git blob", "0" * 40), *flags))
    refused(done, "wrong bytes (git blob ", "git hash-object 0000")
    proved(run(*fetch_of("git blob", blob), *flags), out)
    server.behaviours["f"] = endless
    out.unlink()
    done = without_progress(run(*fetch_of("git blob", "0" * 40), *flags))
    refused(done, "more than 104857600 bytes")


def test_a_terminal_shows_a_bar_with_rate_and_time_left(server: Server, out: Path) -> None:
    def steady(answer: Answer) -> None:
        answer.head(200, Content_Length=len(DATA))
        for i in range(0, len(DATA), 1 << 18):
            answer.wfile.write(DATA[i : i + (1 << 18)])
            time.sleep(0.05)

    server.behaviours["f"] = steady
    ours, theirs = pty.openpty()
    words = [*FETCH, "--urls", f"{server.url}/f", "--out", out]
    process = subprocess.Popen([str(word) for word in words], env=environment(), stderr=theirs, stdout=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
    assert process.wait() == 0
    assert b"/3.1 MB, " in shown
    assert b" MB/s, " in shown
    assert b" s left" in shown
    assert b"[########################] 3.1/3.1 MB" in shown


def pin(project: Project, old: object, new: object) -> None:
    """Replaces a digest or a size of an official file."""
    constants = project.tree / "scripts/formats/official.py"
    text = constants.read_text()
    assert text.count(str(old)) == 1, old
    constants.write_text(text.replace(str(old), str(new)))


def pin_inputs(project: Project) -> None:
    """Makes the archive and the checkpoint in ROOT the official ones."""
    archive, weights = project.root / held.PATHS["archive"], project.root / held.PATHS["checkpoint"]
    for name, md5 in official.BATCHES_MD5.items():
        pin(project, md5, hashlib.md5(read_member(archive, name)).hexdigest())
    pin(project, official.ARCHIVE.digest, artifact.digest(archive))
    pin(project, official.ARCHIVE.size, archive.stat().st_size)
    pin(project, official.CHECKPOINT.digest, artifact.git_blob(weights))


def test_make_gets_both_official_inputs_by_itself_and_they_count_as_official(project: Project, server: Server) -> None:
    archive, weights = project.root / "data/archive.tar.gz", project.root / "models/checkpoint.pkl"
    files = {"cifar-10-python.tar.gz": archive.read_bytes(), "model_92_sgd.pkl": weights.read_bytes()}
    pin_inputs(project)
    for name, data in files.items():
        server.behaviours[name] = partial(whole, data=data)
    project.make("distclean", "PYTHON=")  # given inputs too; there is no .venv here
    assert not archive.exists()
    done = project.make("accuracy", f"MIRROR={server.url}")
    assert sorted(asked[0] for asked in server.asked) == ["/cifar-10-python.tar.gz", "/model_92_sgd.pkl"]
    text = (project.root / "results/null/bs16/accuracy.txt").read_text()
    for origin in ("data_origin", "checkpoint_origin"):
        assert re.search(rf"{origin} +official", text)
    assert "official" in done.stdout
    project.make("accuracy")
    assert project.pythons() == []
    before = project.artifacts()
    copy = project.tree / "copy.pkl"
    copy.write_bytes(files["model_92_sgd.pkl"])
    project.make("accuracy", f"WEIGHTS={copy}")  # the same bytes from another path
    assert project.rebuilt(before) == set()
    weights.unlink()
    project.make("accuracy", f"WEIGHTS={copy}")  # given as WEIGHTS it counts as the official one too
    assert re.search(r"checkpoint_origin +official", (project.root / "results/null/bs16/accuracy.txt").read_text())
    assert len(server.asked) == 2


@pytest.mark.parametrize(("name", "goal"), [("models/checkpoint.pkl", "onnx"), ("data/archive.tar.gz", "bin")])
def test_a_file_put_into_root_by_hand_is_checked_and_named_before_it_is_used(
    built: Project, fresh: Project, name: str, goal: str
) -> None:
    for each in ("models/checkpoint.pkl", "data/archive.tar.gz"):
        (fresh.root / each).parent.mkdir(parents=True)
        shutil.copyfile(built.root / each, fresh.root / each)
    (fresh.root / name).write_text("junk")
    done = fresh.make(goal, check=False)
    assert fresh.pythons()[-1] == "fetch"
    assert f"fetch.py: root/{name}: " in done.stderr
    assert "remove it to download the official one" in done.stderr
    assert (fresh.root / name).read_text() == "junk"
    shutil.copyfile(built.root / name, fresh.root / name)  # newer than all that make knows
    done = fresh.make(goal)
    assert f"  root/{name}: found there, not the official file: used as your own" in done.stderr
