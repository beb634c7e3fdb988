"""Batches pickled by Python 3, and pickles that must not harm the reader."""

from __future__ import annotations

import base64
import collections
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import SCRIPTS, TREE, Project, environment, refused, run
from formats import python2, sample
from formats.batch_pickle import BatchError, BatchUnpickler, images_and_labels
from formats.cifar10 import read_batch
from formats.restricted_pickle import LimitedReads

IMAGES, LABELS = sample.draw(3, 12)
ROWS = IMAGES.reshape(12, -1)
ROWS.flags.writeable = True


def read(pickled: bytes) -> tuple[Any, list[int]]:
    return images_and_labels(BatchUnpickler(LimitedReads(pickled)).load())


def fault(pickled: bytes) -> str:
    """The message about a pickle that is refused; the command does the same for every exception."""
    try:
        read(pickled)
    except BatchError as error:
        return f"{error.problem}; {error.remedy}"
    except Exception as error:  # noqa: BLE001
        return str(error)
    raise AssertionError("not refused")


def read_only(array: Any) -> Any:
    """A copy that protocol 5 writes as bytes instead of a bytearray."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


DATA: dict[str, Any] = {
    "C": lambda: ROWS,
    "read-only": lambda: read_only(ROWS),
    "Fortran": lambda: np.asfortranarray(ROWS),
    "a slice": lambda: np.repeat(ROWS, 2, axis=0)[::2],
}
NUMBERS: dict[str, Any] = {
    "ints": lambda: [int(k) for k in LABELS],
    "a tuple": lambda: tuple(int(k) for k in LABELS),
    "int64": lambda: LABELS.astype(np.int64),
    "uint8": lambda: LABELS.astype(np.uint8),
    "big-endian": lambda: LABELS.astype(">i4"),
    "numbers of numpy": lambda: list(LABELS.astype(np.int64)),
    "bytes of numpy": lambda: list(LABELS.astype(np.uint8)),
    "arrays of one number": lambda: [np.array(k) for k in LABELS],
}


def batch_of(text: Any, data: Any, labels: Any) -> dict[Any, Any]:
    """A batch; `text` makes its keys and names."""
    more = {text("batch_label"): text("testing batch"), text("filenames"): [text(f"{i}.png") for i in range(12)]}
    other = {text("note"): None, text("size"): 1 << 40, text("mean"): 0.5, text("empty"): text("")}
    return {**more, text("labels"): labels, text("data"): data, **other}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("text", [str, str.encode], ids=["str", "bytes"])
@pytest.mark.parametrize("python", [False, True], ids=["C", "Python"])
def test_what_python_3_pickles_is_read_like_the_form_of_python_2(protocol: int, text: Any, python: bool) -> None:
    dumps: Any = pickle._dumps if python else pickle.dumps  # type: ignore[attr-defined]
    for data in DATA.values():
        for labels in NUMBERS.values():
            pickled = dumps(batch_of(text, data(), labels()), protocol)
            for old, new in (("numpy._core", "numpy.core"), ("numpy.core", "numpy._core")):
                if protocol < 2:  # text without lengths: the names of the other numpy
                    pickled = pickled.replace(f"c{old}".encode(), f"c{new}".encode())
                images, numbers = read(pickled)
                assert np.array_equal(images, IMAGES)
                assert numbers == LABELS.tolist()
                assert {type(number) for number in numbers} == {int}


# {"data": np.zeros((1, 3072), np.uint8), "labels": [np.int64(7)], b"fine": np.array([7])} by numpy 1.26.4, Python 3.11
NUMPY_1 = {  # by protocol: zlib, then base85
    0: (
        "c-"
        "rmUyNcUD6vpu~aGpd>jOHR)hJ67yE>frpEV{)QwDO=!VaUVh9BXrdkYbxuf5ZGd)|{C+@&kNXpK_`DW^E)n>89;1Jr3P{9u9BYxZ"
        "aw1ZXWVF58ZuQ)_LnzNnWzOPNsfePeHPCE^CU?y>|D0=oT3!n@B1ot6NE>)MK;WCMW5rg_V3sC;fK0PMp*2`#6XE=<T_G??w9ck@"
        "Og+SJa#Cc2UlGuESYbVcSdH8l?WNi$}R!F6YmBkPU0eRnppqt2Od<%k_hZh=_=Yh=_=Yh=_=Yh=_=Yh=_=Yh=_=Yh=_=Yh=_=Yh="
        "~7FN$w<93n20qJmf7y$a`s*dTiQZTqOA**_eF%R}|9HHDfbtT_M@^8A^1k^jG;uD3L$f(bXPG^rDNWze0&ZF6}dr=+j4f4{q;0c)"
        "cJ5n?;)y(k#!@zTKul%gXmM>myWh_1fysgr=bHZ^28^-aq~hUeYICD=YbxmGq(3V%YDD)=(^LR_fn+_yMUpZJh"
    ),
    1: (
        "c-rlk$xg#C6h++uT1=T|DDz~dsNJ#P2TDa3US)$S#|cWLH0@2CMJ4!lu$xv0A-(_~S$3rN-p$*d4-"
        "n>72_e2v0wtN`gVETL!!&RPd8{IlreaL{X&{G5rqWz0iZUzOXyO-TR9KfNRApZd{Xk|kNX!St9CJ%L+rzv&uisdxC~2dnQ0G`spd"
        "5>=Thix+G!z=sSYM4tdU%PsWj&O)vD|63Xs6Yt3M(9|tXrAHzGJP|>pg#JCYRY^-"
        "7~$R{xN9~i^XEGSS%Kc#qy89MyO?DlVeL^+nYLw7sMHMUa|X!>||2JBBj`4;Z#AQN9=zq$N@)lrXWu^{G}jAp3#rGuGVI29Gf*xI"
        "8GJLIL?J>Fw*rFB>^r>@si^zEVHmMsq0YN5#zWi>`37@Y|gyqNAR7Qz2|sPaJ=040wZ#ROa"
    ),
    2: (
        "c-"
        "rlkyH3L}7=@j*r6rX69m@R{Zjrh%@B~D3@RS8rjuVtfY1)%GLnV+{+R~>6Cv6uHPk_I{wsicTfBru7cM#Jl6GA*D7&IPdonGJK-N"
        "d&#StLT1B&=_=6Q6hER3sS}2K31<BladKN;Vmw%-g){`8+lJIDZ(ZIGQYWG3U(5J7OY?o2U*^qnIDTpja?%&DNeteTe$B(-"
        "Zxk99?vDIg&N8H2xf6nPSDXOGVuqR$Hys)0d<;Y$CAcj)RIr>O`SXC=?2XLZMLnBd{Jw!PubK6xed7-"
        "r@RDitQKd{9!jKXAw&b>;@C<2p_PQYsWrCW2POCIQXR<hpx1anhdM6?MM0cV~Ud@PASfq%yYMT4PzhYd3Hf@8R$VFOjm)lAd}*{u"
        "%H2Mg2wn~;cY&2M{zG;xtaA1pR9qK"
    ),
    3: (
        "c-"
        "rmPJx_x`9LMqF!L}kkYkjur#6;re;3S(w1|}9`?f?S`rTrbpK%$9DTY1%rU=tJLEAT$U<#G@C&)+xg6~qd3LP$gfg%alFcv{)vgv"
        "a){%tT5#r<L)<<8YD}f|sE%pmwi}JnC+txnu_2Q5aSh==tbduHq^W#GGUB{WcQSG&ZmrsLibM8b<xTz?u)!a<xEd&R($YdEWg;qg"
        "`Agu)*p(ViHM`BuSDaNs|5%Yzl0#px10O%HpiR_9J%wXq6(Q8RZ6clP)&W8|;0>#=ei?GB$2;@GCYBnKS4w2OiCF?Bj$w`g5AcI8"
        "D@~jhwTjDV%d3qqcBnxJZWek8hU(SFE%@0c@0M?f"
    ),
    4: (
        "c-rmPF-yZh7{>8SOd5sgq?;e0Q^3u^$!rEQxQkqplMAG2xm<>Tf{WF_yY=z&>NTa(!EfOE8x9VhyZ!$be4U?)$t&g*RMJY&McXe{"
        "LsBk{N)~-"
        "%YiW!eK=G4N<+AOp=}U_ZD4d3%sI7LB4KneL)GP3T2h1}s^X^5wh7KvL?66YXSAKtm@pCsgBJTxxp5J{t(~${_V!RcxV2m-w7-"
        "Nk6BXA`^vql!G>F@~c)2u6HBaN#FeMWwLeb^B<e{@889PR&FyPZsf=ekwUfsVGJqECJ^#a%APgSmU$CqGVvYvu"
    ),
    5: (
        "c-rmPF>As=6bJB&Mh#Rc6gu=9WD2-Bbj#LYhVG?Y;)MhfmGf>8TIiy-"
        "@V5Tz*KN<B#ldgj`we#w?s4y}|Bv3!Xe3(i2+5yGBSCj_+bq{nzR)UirP5Unx_K@1qRDJgD2;D~dodJ@F~%5UjIk>N>a}^n-"
        "7~XZDi;o@W5@XV+~FBv(k1T=X_`L$I_;4NgDml;Vz>o)F^ub@el0UqukZr8Kg%DDtxYAhmhS)lDwnl9q>nP7PBl3n@pxfG91Ko7Z"
        "e5>@{i2#HlzzAmjt~D0<wN3aP~IMPvC$uFX=af"
    ),
}


@pytest.mark.parametrize("protocol", NUMPY_1)
def test_batches_of_numpy_1_are_read(protocol: int) -> None:
    pickled = zlib.decompress(base64.b85decode(NUMPY_1[protocol]))
    assert b"numpy.core." in pickled
    images, labels = read(pickled)
    assert images.shape == (1, 3, 32, 32) and not images.any()
    assert labels == [7]


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_other_arrays_and_labels_are_refused_and_named(protocol: int) -> None:
    square = IMAGES.transpose(0, 2, 3, 1)
    cases: list[tuple[Any, Any, str]] = [
        (IMAGES, LABELS, "its data are uint8 [12, 3, 32, 32], not uint8 images of 3072 bytes; save data.reshape(len"),
        (np.ascontiguousarray(square), LABELS, "save data.transpose(0, 3, 1, 2).reshape(len(data), -1)"),
        (ROWS.astype(np.float32), LABELS, "its data are float32 [12, 3072]"),
        (ROWS.astype(object), LABELS, "its data are of another type [12, 3072]"),
        (np.zeros(12, "u1,f4"), LABELS, "its data are of another type [12]"),
        (ROWS[:, :-1].copy(), LABELS, "its data are uint8 [12, 3071]"),
        (ROWS[:0], LABELS[:0], "its data are uint8 [0, 3072]"),
        (ROWS.tolist()[:2], [1, 2], "its data are not uint8 images"),
        (ROWS, LABELS[:-1], "the number of labels differs from the 12 images"),
        (ROWS, LABELS[:0], "the number of labels differs from the 12 images"),
        (ROWS, LABELS.reshape(12, 1), "its labels are int64 [12, 1], not a list or an array of one dimension"),
        (ROWS, LABELS.astype(float), "its labels are float64 [12], not integers"),
        (ROWS, LABELS.astype(object), "its labels are of another type [12], not integers"),
        (ROWS, [True] * 12, "image 0 has label of type bool"),
        (ROWS, [np.float64(1)] * 12, "image 0 has label of type NoneType"),
        (ROWS, LABELS + 5, "not one from 0 to 9"),
        (ROWS, {0: 1}, "the number of labels differs"),
        (ROWS, {"a": 1}, "the number of labels differs"),
    ]
    for data, labels, words in cases:
        assert words in fault(pickle.dumps({"data": data, "labels": labels}, protocol)), words
    both = {"data": ROWS, b"data": ROWS, "labels": LABELS}
    assert "two of its keys are the same" in fault(pickle.dumps(both, protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_in_ignored_entries_are_accepted(protocol: int) -> None:
    plain: dict[str, Any] = {
        "label_names": {0: "plane", 1: "car"},
        "by name": {"plane": 0, 2.5: None, True: [1]},
        "set": {1, "a", b"b"},
        "frozenset": frozenset({1, (2, 3)}),
        "flag": True,
        "nothing": None,
        "number": 0.5,
        "complex": 1j,
        "bytes": bytearray(b"abc"),
        "ordered": collections.OrderedDict(a=1),
        "nested": [[1, [2, {"a": (None, {3: {4}})}]]],
        "numpy": {0: np.float32(1)},
    }
    for batch in ({**plain, "data": ROWS, "labels": LABELS}, {"data": ROWS, "labels": LABELS, **plain}):
        images, labels = read(pickle.dumps(batch, protocol))
        assert np.array_equal(images, IMAGES) and labels == LABELS.tolist()


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_else_is_called(tmp_path: Path, protocol: int) -> None:
    for batch in (
        {"data": Evil(tmp_path / "mark"), "labels": [1]},
        {"data": ROWS, "labels": LABELS, "note": Evil(tmp_path / "mark")},
    ):
        assert "unexpected name posix.system" in fault(pickle.dumps(batch, protocol))
    assert not (tmp_path / "mark").exists()
    for other in (tmp_path, np.random.default_rng(1), Ellipsis, slice(1), np.ma.array([1])):
        batch = {"data": ROWS, "labels": LABELS[:3], "note": other}
        assert fault(pickle.dumps(batch, protocol))


def name(module: str, word: str) -> bytes:
    return f"c{module}\n{word}\n".encode()


ENCODE = name("_codecs", "encode")
BAD: dict[str, bytes] = {
    "a huge index of the memo": b"\x80\x02}r\xff\xff\xff\x7f" * 3 + b".",
    "a huge text index": b"}p" + b"9" * 100000 + b"\n.",
    "a huge frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.",
    "a frame beyond the end": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"}.",
    "huge bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "a huge bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
    "a bytearray of the largest size": b"\x80\x05\x96" + struct.pack("<Q", (1 << 64) - 1) + b".",
    "huge text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 63) + b".",
    "text of 4 GB": b"X\xff\xff\xff\xffa.",
    "a buffer outside of the pickle": b"\x80\x05\x97.",
    "a read-only buffer": b"\x80\x05C\x01a\x98.",
    "a persistent id": b"\x80\x02NQ.",
    "a new object": b"\x80\x02" + name("numpy", "ndarray") + b")\x81.",
    "an extension code": b"\x80\x02\x82\x01.",
    "an unknown name on the stack": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "a name that is not text": b"\x80\x04N\x8c\x06system\x93.",
    "a call of text": b"\x80\x04\x8c\x02os)R.",
    "a call of a dict": b"}" + b")R.",
    "state of a name": name("numpy", "ndarray") + b"}b.",
    "state of a dict": b"}}b.",
    "a dict as state": b"}\x8c\x04data" + name("numpy.core.multiarray", "_reconstruct") + b")R}bs\x8c\x06labels]s.",
    "many arguments": name("numpy", "dtype") + b"(" + b"N" * 100 + b"tR.",
    "another codec": b"}\x8c\x04data" + ENCODE + b"\x8c\x01a\x8c\x04zlib\x86Rs\x8c\x06labels]s.",
    "nested tuples": b"}\x8c\x04data)" + b"\x85" * 300000 + b"s\x8c\x06labels]s.",
    "nested calls": b"}\x8c\x04data"
    + b"N"
    + b"\x85q\x00"
    + (name("numpy", "dtype") + b"h\x00Rq\x01\x85q\x00") * 50000
    + b"s.",
    "nested lists": b"]" * 200000 + b"a" * 199999 + b".",
    "nested keys": b"}" + b")" + b"\x85" * 300000 + b"Ns.",
    "a key of bytes in disguise": b"}" + ENCODE + b"N" * 1 + b"\x8c\x06latin1\x86RNs.",
    "references to references": b"]q\x00"
    + b"]q\x01("
    + b"h\x00" * 10
    + b"eq\x00" * 1
    + b"]" * 1
    + (b"(" + b"h\x00" * 10 + b"lq\x00") * 60000
    + b".",
    "copies of one text": b"X"
    + struct.pack("<I", 1 << 24)
    + b"a" * (1 << 24)
    + b"q\x00("
    + (ENCODE + b"h\x00\x8c\x06latin1\x86R") * 100000
    + b"t.",
    "text of other characters": b"X"
    + struct.pack("<I", (1 << 26) + 4)
    + "\U0001f600".encode()
    + b"a" * (1 << 26)
    + b".",
    "text line of other characters": b"V\\U0001f600" + b"a" * (1 << 26) + b"\n.",
    "many dicts": b"\x80\x04" + b"}\x94" * (1 << 22) + b".",
    "a name of 20 MB": name("x" * 20_000_000, "y") + b".",
    "nothing": b"",
    "no end": b"\x80\x04}",
    "a number of a megabyte": b"L" + b"9" * 1_000_000 + b"L\n.",
}

# Runs a program; prints its CPU seconds and its peak memory in KB. A process of its own, because Linux counts the
# memory of the process that starts a program as the program's: a test process can have more than a pickle may take.
USAGE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(status)
"""


@pytest.mark.parametrize("kind", BAD)
def test_a_pickle_that_would_take_memory_or_time_is_one_line(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / "archive.tar.gz"
    python2.write_tar(archive, {"test_batch": BAD[kind]})

    program = [sys.executable, str(SCRIPTS / "preprocess.py")]
    command = [*program, "--archive", str(archive), "--bins", str(tmp_path / "bin")]
    done = subprocess.run([sys.executable, "-c", USAGE, *command], env=environment(), capture_output=True, text=True)
    refused(done, "archive.tar.gz: test_batch")
    assert len(done.stderr) < 2000
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 8  # a second on an idle machine, of which numpy takes a part
    assert kilobytes < 1 << 20


def test_make_bin_reads_an_own_archive_of_python_3(fresh: Project, tmp_path: Path) -> None:
    files = {f"data_batch_{i}": {"data": ROWS, "labels": LABELS, "filenames": ["a"] * 12} for i in range(1, 6)}
    files["test_batch"] = {"data": ROWS, "labels": list(LABELS), "batch_label": "own"}
    files["batches.meta"] = {"label_names": list("abcdefghij"), "num_cases_per_batch": 12}
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for word, batch in files.items():
        (folder / word).write_bytes(pickle.dumps(batch))
    with tarfile.open(tmp_path / "own.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    (tmp_path / "old").mkdir()
    python2.write_tar(tmp_path / "old/own.tar.gz", {"test_batch": sample.batch("t", IMAGES, LABELS)})
    for archive, root in ((tmp_path / "own.tar.gz", "new"), (tmp_path / "old/own.tar.gz", "old")):
        fresh.make("bin", f"ARCHIVE={archive}", f"ROOT={root}")
    new, old = fresh.tree / "new/data", fresh.tree / "old/data"
    assert (new / "labels.txt").read_text() == (old / "labels.txt").read_text()
    for i in range(12):
        assert (new / f"bin/image_{i}.bin").read_bytes() == (old / f"bin/image_{i}.bin").read_bytes()
    done = run(
        *(sys.executable, SCRIPTS / "make_calibration.py", "--archive", new / "archive.tar.gz", "--images", 20),
        *("--out", tmp_path / "calibration.bin"),
    )
    assert done.returncode == 0, done.stderr


def test_the_code_on_the_page_writes_an_archive_that_is_read(tmp_path: Path) -> None:
    code = (TREE / "docs/inputs.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "write.py").write_text(f"import numpy as np\nimages = np.load('images.npy')\nlabels = [3]\n{code}")
    np.save(tmp_path / "images.npy", IMAGES[:1])
    assert run(sys.executable, "write.py", cwd=tmp_path).returncode == 0
    images, labels, _ = read_batch(tmp_path / "own.tar.gz", "test_batch")
    assert np.array_equal(images, IMAGES[:1]) and labels == [3]
