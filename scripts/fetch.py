"""urls + digest -> file: downloads what ROOT does not hold, and proves it before it gets its name.

Urls are tried in order, then again with a growing pause; a download that breaks off goes on where it stopped, from
another url or in another run too. What lies at --out already, made by an earlier run or put there by hand, stays.
Proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) and CA bundles (SSL_CERT_FILE, REQUESTS_CA_BUNDLE,
CURL_CA_BUNDLE) are taken from the environment. Exits 1 if no url has the file, and says where to put it by hand.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die
from _support.progress import Progress
from _support.web import PermanentError, RetryableError, download_error, host, is_plain_url, open_url

import argparse
import contextlib
import http.client
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, NoReturn

SETTINGS = {
    "archive": {
        "urls": "cifar10.urls",
        "bytes": "cifar10.bytes",
        "sha256": "cifar10.sha256",
        "timeout": "download.timeout",
        "tries": "download.tries",
    },
    "checkpoint": {
        "urls": "upstream.urls",
        "git_blob": "upstream.model_92_sgd",
        "timeout": "download.timeout",
        "tries": "download.tries",
    },
    "source": {
        "urls": "upstream.urls",
        "basic_layers": "upstream.basic_layers",
        "attention_module": "upstream.attention_module",
        "residual_attention_network": "upstream.residual_attention_network",
        "timeout": "download.timeout",
        "tries": "download.tries",
    },
}
SOURCES = ("basic_layers", "attention_module", "residual_attention_network")  # of upstream, one file each
BLOCK = 1 << 16  # bytes; fewer within --timeout seconds is as good as nothing
LIMIT = 100 << 20  # bytes, where the size is not known: larger files GitHub does not hold (its "About large files")


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[Callable[[], None]]:
    """Raises RetryableError unless what it hands out is called again within `seconds`. An alarm, because a time-out of
    sockets is begun anew by every single byte."""

    def late(*_: object) -> None:
        raise RetryableError(f"less than {BLOCK >> 10} KiB in {seconds} s")

    def begin() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    signal.signal(signal.SIGALRM, late)
    begin()
    try:
        yield begin
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def receive(url: str, part: Path, size: int, seconds: int, hands: set[str]) -> None:
    """Adds to `part` the bytes of `url` that it lacks, and the url to `hands`, who wrote it. `size`: of the whole, or 0
    where it is not known. Raises RetryableError, with what came kept, or PermanentError, with `part` as it was."""
    begin = length(part)
    with deadline(seconds) as renew, open_url(url, begin) as answer:
        span = re.match(r"bytes (\d{1,15})-\d+/(\d{1,15}|\*)$", answer.headers.get("Content-Range") or "")
        first = int(span[1]) if answer.status == 206 and span else 0
        total = None if answer.length is None else first + answer.length
        if answer.status == 206 and span and span[2] != "*":
            total = int(span[2])  # a server may send less than was asked for
        if first > begin or (size and total not in (size, None)):
            raise PermanentError(
                f"another file, of {total} bytes, not {size}" if first <= begin else "not the bytes asked for"
            )
        progress = Progress(size or total or 0, "MB", 10**6, begin)
        have, renewed = first, first
        with open(part, "ab") as stream, contextlib.closing(progress):
            while True:
                try:
                    block = answer.read1(min(BLOCK, size - have) if size else BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise download_error(url, error) from None
                if not block:
                    break
                hands.add(url)
                stream.write(block[max(0, begin - have) :])
                have += len(block)
                if have > LIMIT and not size:
                    stream.truncate(begin)
                    raise PermanentError(f"more than {LIMIT} bytes")
                if have - renewed >= BLOCK:
                    renewed = have
                    renew()
                if have > max(begin, 10**6):
                    progress.update(have)
                if have == size:  # however the server means to end
                    return
            if total is None and size and have < size:  # an error page, perhaps: nothing says that it broke off
                stream.truncate(begin)
                raise PermanentError(f"another file, of {have} bytes, not {size}")
        if have < (size or total or 0):
            raise RetryableError(f"broke off after {have} bytes")


def download(urls: list[str], part: Path, size: int, wrong: Callable[[Path], str], seconds: int, tries: int) -> str:
    """Fills `part`, which may hold a beginning, until wrong(part) is empty. The url it came from; raises PermanentError."""
    faults: dict[str, str] = {}
    longest = length(part)
    hands = {"an earlier run"} if longest else set()  # who wrote `part`
    accused: set[str] = set()
    left, pause = tries, 1
    while urls and left:
        for url in list(urls):
            try:
                if url not in faults:
                    print(f"  {url}", flush=True)
                while True:
                    receive(url, part, size, seconds, hands)
                    fault = wrong(part)
                    if not fault:
                        return url
                    artifact.remove(part)
                    if hands <= {url}:
                        raise PermanentError(fault)
                    hands.clear()  # somebody else wrote a part of it: the same url once more, alone
                    if url not in accused:  # what was lost counts anew, once a url, or liars could go on for ever
                        accused.add(url)
                        longest, left, pause = 0, tries, 1
            except (RetryableError, PermanentError) as error:
                faults[url] = str(error)
                print(f"  {host(url)}: {error}", flush=True)
                if isinstance(error, PermanentError):
                    urls.remove(url)
                if "HTTP 416" in str(error) and length(part) >= size:  # `part` is as long as the file there, or longer
                    if part.is_file() and not wrong(part):
                        return url
                    artifact.remove(part)
                if not part.is_file():
                    hands.clear()
        have = length(part)
        if have >= longest + 2**20:  # on its way: a slow host that breaks off every few minutes gets there too
            longest, left, pause = have, tries, 1
        left -= 1
        if urls and left:
            print(f"  again in {pause} s", flush=True)
            time.sleep(pause)
            pause = min(2 * pause, 60)
    reasons: dict[str, list[str]] = {}
    for url, fault in faults.items():
        if host(url) not in reasons.setdefault(fault, []):
            reasons[fault].append(host(url))
    raise PermanentError(" · ".join(f"{', '.join(hosts)}: {fault}" for fault, hosts in reasons.items()))


def keep(out: Path, official: bool) -> None:
    """Renews what lies at `out`, and its record where it is of other bytes or not there."""
    with artifact.locked(out):
        record, found = artifact.read_record(artifact.record_of(out)), artifact.digest(out)
        if record.get("sha256") != found:
            origin = "official" if official else "given"
            artifact.write_record(
                artifact.record_of(out), {"key": {"by hand": found}, "origin": origin, "sha256": found}
            )
        if out.is_symlink() or out.stat().st_uid != os.geteuid():  # a time of our own needs a copy of our own
            with artifact.temporary(out) as path:
                shutil.copyfile(out, path)
                path.replace(out)
        artifact.renew(out)


class Proof(NamedTuple):
    """The digest that proves a file: of which kind, and its value."""

    kind: str  # sha256, or "git blob": what git hash-object says
    value: str

    def fault(self, path: Path) -> str:
        """What is wrong with a file's bytes, or an empty text."""
        actual = artifact.digest(path) if self.kind == "sha256" else artifact.git_blob(path)
        return "" if actual == self.value else f"wrong bytes ({self.kind} {actual[:16]}…)"


def proof_of(args: argparse.Namespace) -> Proof:
    """By --sha256, by --git-blob, or by the flag that is named as the file --out."""
    if args.sha256:
        return Proof("sha256", args.sha256)
    return Proof("git blob", args.git_blob or getattr(args, args.out.stem, ""))


def with_mirror(urls: list[str], mirror: str, name: str) -> list[str]:
    """The urls to try: that of the mirror, a folder or the file itself, first."""
    if not mirror:
        return urls
    return [mirror if mirror.endswith("/" + name) else f"{mirror.rstrip('/')}/{name}", *urls]


def not_downloaded(out: Path, reason: object, where: str, variable: str) -> NoReturn:
    """Says why, and where to put the file by hand."""
    other = f" or {variable}= a path, or try make demo" if variable else ""
    remedy = f"put {where} there by hand (make doctor tells what else is missing), give MIRROR= a url{other}"
    die(out, f"not downloaded ({reason})", remedy)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--urls", nargs="+", required=True, help="tried in this order")
    parser.add_argument("--file", default="", help="what follows each url but the mirror's: a path below it")
    parser.add_argument("--mirror", default="", help="the url of a folder that has the file too, tried first")
    parser.add_argument("--bytes", type=int, default=0, help="the file's size, where it is known")
    parser.add_argument("--sha256", help="of the file")
    parser.add_argument("--git-blob", help="what git hash-object says of the file")
    for name in SOURCES:
        parser.add_argument(f"--{name.replace('_', '-')}", default="", help=f"the same, if --out is {name}.py")
    parser.add_argument("--timeout", type=int, required=True, help=f"seconds in which {BLOCK} bytes must come")
    parser.add_argument("--tries", type=int, required=True)
    parser.add_argument("--variable", default="", help="of make, that names such a file")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    proof, official = proof_of(args), [f"{url}/{args.file}" if args.file else url for url in args.urls]
    for url in filter(None, [args.mirror, *official]):
        if not is_plain_url(url):
            parser.error(f"{url if '@' not in url else '…@' + host(url)} is no http or https url without a password")
    if not proof.value:
        parser.error("no --sha256 or --git-blob of the file")
    part = args.out.with_name(f"download.tmp.{proof.value[:16]}")
    if args.out.is_dir():
        die(args.out, "a folder, not a file", "move it away and run the same command again")
    if args.out.exists():
        keep(args.out, official=not proof.fault(args.out))
        artifact.remove(part)
        return
    urls = with_mirror(official, args.mirror, official[0].rsplit("/", 1)[1])
    with contextlib.suppress(artifact.Unchanged), artifact.build_file(args.out, {"fetched": proof.value}) as job:
        try:
            url, whole = "", part.is_file() and not proof.fault(part)
            if not whole:
                url = download(list(urls), part, args.bytes, proof.fault, args.timeout, args.tries)
        except PermanentError as error:
            kind = "sha256" if proof.kind == "sha256" else "git hash-object"
            not_downloaded(args.out, error, f"{urls[-1]} ({kind} {proof.value})", args.variable)
        try:
            os.link(part, job.path)  # not renamed: killed before its record is written, it is not fetched again
        except OSError:  # a file system without links
            part.replace(job.path)
        job.record.update(origin="official", url=host(url))
    artifact.remove(part)


if __name__ == "__main__":
    main()
