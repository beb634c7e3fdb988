"""Downloads a file that ROOT lacks and verifies its digest.

Urls are tried in order, then again with a growing pause. An interrupted download continues where it stopped, also from
another url or in a later run. A file that exists at --out, downloaded earlier or copied there by hand, is kept.
Proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) and CA bundles (SSL_CERT_FILE, REQUESTS_CA_BUNDLE,
CURL_CA_BUNDLE) are those of the environment. Exits 1 if no url has the file; the message says where to copy it by hand.
"""

from __future__ import annotations

from _support import artifact, cli
from _support.cli import die
from _support.progress import Progress
from _support.web import PermanentError, RetryableError, download_error, host, is_plain_url, open_url

import contextlib
import http.client
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, NoReturn

from formats import held
from formats.official import FILES, Official
from formats.user_inputs import check_size

SETTINGS = {
    "archive": {
        "urls": "cifar10.urls",
        "timeout": "download.timeout",
        "tries": "download.tries",
    },
    "checkpoint": {
        "urls": "upstream.urls",
        "timeout": "download.timeout",
        "tries": "download.tries",
    },
    "source": {
        "urls": "upstream.urls",
        "timeout": "download.timeout",
        "tries": "download.tries",
    },
}
BLOCK = 1 << 16  # bytes that must arrive within --timeout seconds
LIMIT = 100 << 20  # bytes, if the size is unknown: GitHub's limit ("About large files on GitHub")


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[Callable[[], None]]:
    """Yields a function that restarts the time limit; raises RetryableError when `seconds` pass without a call of it.

    It uses an alarm, because the time-out of a socket restarts with every byte received.
    """

    def fail(*_: object) -> None:
        raise RetryableError(f"less than {BLOCK >> 10} KiB in {seconds} s")

    def restart() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)

    signal.signal(signal.SIGALRM, fail)
    restart()
    try:
        yield restart
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def length(path: Path) -> int:
    """Bytes of a file; 0 if it does not exist."""
    return path.stat().st_size if path.is_file() else 0


def receive(url: str, part: Path, size: int, seconds: int, sources: set[str]) -> None:
    """Appends the bytes of `url` that `part` lacks, and adds the url to `sources`, the origins of its bytes.

    `size` is that of the whole file, or 0 if it is unknown. Raises RetryableError, which keeps the received bytes, or
    PermanentError, which leaves `part` as it was.
    """
    begin = length(part)
    with deadline(seconds) as restart, open_url(url, begin) as response:
        span = re.match(r"bytes (\d{1,15})-\d+/(\d{1,15}|\*)$", response.headers.get("Content-Range") or "")
        first = int(span[1]) if response.status == 206 and span else 0
        total = None if response.length is None else first + response.length
        if response.status == 206 and span and span[2] != "*":
            total = int(span[2])  # a server may send less than requested
        if first > begin or (size and total not in (size, None)):
            raise PermanentError(
                f"another file, of {total} bytes, not {size}" if first <= begin else "not the requested range"
            )
        progress = Progress(size or total or 0, "MB", 10**6, begin)
        position, renewed = first, first
        with open(part, "ab") as stream, contextlib.closing(progress):
            while True:
                try:
                    block = response.read1(min(BLOCK, size - position) if size else BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise download_error(url, error) from None
                if not block:
                    break
                sources.add(url)
                stream.write(block[max(0, begin - position) :])
                position += len(block)
                if position > LIMIT and not size:
                    stream.truncate(begin)
                    raise PermanentError(f"more than {LIMIT} bytes")
                if position - renewed >= BLOCK:
                    renewed = position
                    restart()
                if position > max(begin, 10**6):
                    progress.update(position)
                if position == size:  # do not wait for the server to close
                    return
            if total is None and size and position < size:  # the server reported no error: perhaps an error page
                stream.truncate(begin)
                raise PermanentError(f"another file, of {position} bytes, not {size}")
        if position < (size or total or 0):
            raise RetryableError(f"interrupted after {position} bytes")


def download(urls: list[str], part: Path, size: int, fault_of: Callable[[Path], str], seconds: int, tries: int) -> str:
    """Completes `part`, which may have a beginning, until fault_of(part) is empty. Returns the url that completed it;
    raises PermanentError with the reasons of all urls."""
    faults: dict[str, str] = {}
    longest = length(part)
    sources = {"an earlier run"} if longest else set()  # where the bytes of `part` come from
    retried: set[str] = set()  # urls that were tried alone, after other sources had written a part
    left, pause = tries, 1
    while urls and left:
        for url in list(urls):
            try:
                if url not in faults:
                    print(f"  {url}")
                while True:
                    receive(url, part, size, seconds, sources)
                    fault = fault_of(part)
                    if not fault:
                        return url
                    artifact.remove(part)
                    if sources <= {url}:
                        raise PermanentError(fault)
                    sources.clear()  # another source wrote a part of it: retry this url alone
                    # Restart the count, but once per url only: bad servers could cause an endless loop.
                    if url not in retried:
                        retried.add(url)
                        longest, left, pause = 0, tries, 1
            except (RetryableError, PermanentError) as error:
                faults[url] = str(error)
                print(f"  {host(url)}: {error}")
                if isinstance(error, PermanentError):
                    urls.remove(url)
                # HTTP 416: `part` has all bytes of the server's file, or more.
                if "HTTP 416" in str(error) and length(part) >= size:
                    if part.is_file() and not fault_of(part):
                        return url
                    artifact.remove(part)
                if not part.is_file():
                    sources.clear()
        received = length(part)
        if received >= longest + 2**20:  # progress: restart the count, for slow hosts that disconnect often
            longest, left, pause = received, tries, 1
        left -= 1
        if urls and left:
            print(f"  retry in {pause} s")
            time.sleep(pause)
            pause = min(2 * pause, 60)
    reasons: dict[str, list[str]] = {}
    for url, fault in faults.items():
        if host(url) not in reasons.setdefault(fault, []):
            reasons[fault].append(host(url))
    raise PermanentError(" · ".join(f"{', '.join(hosts)}: {fault}" for fault, hosts in reasons.items()))


def check_own(out: Path, variable: str) -> None:
    """Exits 1 if a file that somebody copied to ROOT by hand is not a valid input, instead of a later stage."""
    if variable == "ARCHIVE":
        from formats import cifar10  # here, because it takes time, and most runs download

        cifar10.check_archive(out, out, "remove it to download the official one, or ")
        cifar10.read_batch(out, "test_batch")
    elif variable == "WEIGHTS":
        from network import checkpoint

        checkpoint.check(out, otherwise="remove it to download the official one, or ")


def keep_existing(out: Path, expected: Official, variable: str) -> None:
    """Renews the time of the existing file `out`, and writes its record if that is missing.

    Exits 1 if the file is not the official one and no longer the one that its record describes.
    """
    if variable:
        what = {"ARCHIVE": "archive", "WEIGHTS": "weights"}[variable]
        check_size(what, out, out, f"remove it to download the official one, or set {variable}= to another file")
    with artifact.locked(out):
        record, sha256 = artifact.read_record(artifact.record_of(out)), artifact.digest(out)
        if record.get("sha256") != sha256:
            if expected.is_at(out):
                origin = "official"
                print("  found there, the official file")
            else:
                origin, fault = "given", held.fault_of(out, sha256)
                if fault:
                    die(*fault)
                check_own(out, variable)
                text = "found there, not the official file: used as your own, nothing is downloaded"
                print(f"  {out}: {text}", file=sys.stderr if variable else sys.stdout)  # stderr: also under make -s
            artifact.write_record(
                artifact.record_of(out), {"key": {"by hand": sha256}, "origin": origin, "sha256": sha256}
            )
        if out.is_symlink() or out.stat().st_uid != os.geteuid():  # only the owner may set its time, so copy it
            with artifact.temporary(out) as path:
                shutil.copyfile(out, path)
                path.replace(out)
        artifact.renew(out)


def with_mirror(urls: list[str], mirror: str, name: str) -> list[str]:
    """The urls to try, first that of the mirror, which is a folder or the file itself."""
    if not mirror:
        return urls
    return [mirror if mirror.endswith("/" + name) else f"{mirror.rstrip('/')}/{name}", *urls]


def not_downloaded(out: Path, reason: object, where: str, variable: str) -> NoReturn:
    """Exits 1 with the reason and where to copy the file by hand."""
    other = f", set {variable}= to its path, or try make demo" if variable else ""
    remedy = f"copy {where} there by hand (make doctor lists what else is missing), or set MIRROR= to a url{other}"
    die(out, f"not downloaded ({reason})", remedy)


def main() -> None:
    parser = cli.Parser(__doc__)
    parser.add_argument("--what", choices=sorted(FILES), required=True, help="see formats/official.py")
    parser.add_argument("--urls", nargs="+", required=True, help="tried in this order")
    parser.add_argument("--folders", action="store_true", help="the urls are those of folders")
    parser.add_argument("--mirror", default="", help="the url of a folder with the file, tried first")
    parser.add_argument("--timeout", type=int, required=True, help=f"seconds in which {BLOCK} bytes must arrive")
    parser.add_argument("--tries", type=int, required=True, help="attempts over all urls")
    parser.add_argument("--variable", default="", help="the make variable for such a file")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    expected = FILES[args.what]
    official = [f"{url}/{expected.name}" if args.folders else url for url in args.urls]
    for url in filter(None, [args.mirror, *official]):
        if not is_plain_url(url):
            shown = url if "@" not in url else "…@" + host(url)
            parser.error(f"{shown} must be an http or https url without a password")

    def fault_of(path: Path) -> str:
        actual = expected.actual(path)
        return "" if actual == expected.digest else f"wrong bytes ({expected.kind} {actual[:16]}…)"

    part = args.out.with_name(f"download.tmp.{expected.digest[:16]}")
    if args.out.is_dir():
        die(args.out, "a folder, not a file", "move it away and run the same command again")
    if args.out.exists():
        keep_existing(args.out, expected, args.variable)
        artifact.remove(part)
        return
    urls = with_mirror(official, args.mirror, official[0].rsplit("/", 1)[1])
    with contextlib.suppress(artifact.Unchanged), artifact.build_file(args.out, {"fetched": expected.digest}) as job:
        try:
            url, is_complete = "", part.is_file() and not fault_of(part)
            if not is_complete:
                url = download(list(urls), part, expected.size, fault_of, args.timeout, args.tries)
        except PermanentError as error:
            kind = "sha256" if expected.kind == "sha256" else "git hash-object"
            not_downloaded(args.out, error, f"{urls[-1]} ({kind} {expected.digest})", args.variable)
        try:
            os.link(part, job.path)  # a link, so that a kill before the record is written loses nothing
        except OSError:  # a file system without links
            part.replace(job.path)
        job.leftovers.append(part)
        job.record.update(origin="official", url=host(url))


if __name__ == "__main__":
    main()
