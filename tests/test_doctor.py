"""make doctor: what is there, what is missing, what to do; never in the way."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from conftest import House, Inputs, run


def doctor(house: House, **more: str) -> dict[str, str]:
    """{what: the rest of its line}; a line to act upon begins with an exclamation mark."""
    done = run("make", "doctor", "ROOT=house", cwd=house.tree, **more)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [re.match(r"  ([! ]) (\S+(?: \S+)?) +(.*)", line) for line in done.stdout.splitlines()]
    assert all(rows), done.stdout
    return {row[2]: f"{row[1]} {row[3]}".strip() for row in rows if row}


def test_it_names_what_is_missing_and_changes_nothing(fresh: House) -> None:
    before = sorted(fresh.tree.rglob("*"))
    rows = doctor(fresh)
    assert rows[".venv"].startswith("! missing")
    assert "make setup" in rows[".venv"]
    assert re.match(r"! house/data/archive.tar.gz missing  ->  .*ARCHIVE=", rows["archive"])
    assert re.match(r"! house/models/checkpoint.pkl missing  ->  .*WEIGHTS=", rows["checkpoint"])
    assert "basic_layers.py attention_module.py residual_attention_network.py" in rows["upstream"]
    assert [path for path in sorted(fresh.tree.rglob("*")) if "__pycache__" not in path.parts] == before


def test_it_says_what_the_inputs_are(house: House, inputs: Inputs) -> None:
    assert doctor(house)["archive"].endswith("the built-in sample's")
    shutil.copy(inputs.archive, house.root / "own.tar.gz")
    house.make("bin", "ARCHIVE=house/own.tar.gz")
    assert doctor(house)["archive"].endswith("your own file")
    (house.root / "data/archive.json").unlink()
    assert doctor(house)["archive"].endswith("put there by hand")
    (house.root / "data/download.tmp.6d958be074577803").write_bytes(bytes(7))
    assert "download" not in doctor(house)
    (house.root / "data/archive.tar.gz").unlink()
    assert "7 bytes so far  ->  the next make goes on with it" in doctor(house)["download"]


def test_it_shows_proxies_without_passwords_and_a_ca_bundle_that_is_not_there(fresh: House) -> None:
    proxies = {"https_proxy": "http://user:secret@proxy:3128", "no_proxy": "10.0.0.0/8,here"}
    rows = doctor(fresh, **proxies, CURL_CA_BUNDLE="/no/such.pem")
    assert rows["no proxy"] == "10.0.0.0/8,here"
    assert rows["https proxy"] == "proxy:3128"
    assert rows["CURL_CA_BUNDLE"] == "! /no/such.pem, missing  ->  mend or unset CURL_CA_BUNDLE"


def test_it_needs_no_params_no_environment_and_a_place_that_can_be_written(fresh: House) -> None:
    (fresh.tree / "params.yaml").write_text("][")
    doctor(fresh, PATH="/usr/bin:/bin")
    done = run("make", "doctor", "ROOT=/proc/nowhere", cwd=fresh.tree)
    assert re.search(r"! ROOT +/proc/nowhere, cannot be written  ->  give another ROOT=", done.stdout)


def test_it_is_not_stopped_by_what_lies_in_root(house: House) -> None:
    (house.root / "data/archive.json").unlink()
    os.mkfifo(house.root / "data/archive.json")
    (house.root / "models/checkpoint.json").write_text("[" * 100000)
    (house.root / "models/download.tmp.x").symlink_to("/nowhere")
    rows = doctor(house)
    assert "put there by hand" in rows["archive"]
    assert "put there by hand" in rows["checkpoint"]
    done = run("make", "doctor", "ROOT=params.yaml", cwd=house.tree)
    assert re.search(r"! ROOT +\S+params.yaml, a file  ->  give another ROOT=", done.stdout)


def test_a_python_that_does_not_run_is_no_traceback(fresh: House, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    done = run("make", "doctor", f"PYTHON={broken}", cwd=fresh.tree)
    assert "Traceback" not in done.stderr
    assert re.search(r"! PYTHON +\S+broken, does not run", done.stdout)
