"""README.md, docs/ and their Chinese pages are true: commands, transcripts, messages and generated parts."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import documents
from conftest import SCRIPTS, TREE, Project, new_project, refused, run, script_here, shared_once
from engines.ascend import _tools
from params import comments
from params.makefile import flags_of, settings_of
from params.read import read_params
from params.schema import SCHEMA

READMES = ("README.md", "README.zh-CN.md")
PARAMS: dict[str, Any] = yaml.load((TREE / "params.yaml").read_text("utf-8"), yaml.BaseLoader)
PATHS = ("ARCHIVE", "WEIGHTS", "ONNX", "OM", "PYTHON")


def write_docs(folder: Path) -> Any:
    """Runs write_docs.py on copies of the readmes in `folder`; reference.md is written there too."""
    for name in READMES:
        shutil.copy(TREE / name, folder)
    command = SCRIPTS / "write_docs.py"
    flags = flags_of(settings_of(command)[""], read_params(TREE / "params.yaml"), command)
    files = ("--makefile", TREE / "Makefile", "--params", TREE / "params.yaml", "--out", folder / "reference.md")
    return script_here("write_docs", *files, *flags.split(), "--readmes", *(folder / name for name in READMES))


def test_generated_pages_are_what_make_docs_writes(tmp_path: Path) -> None:
    done = write_docs(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference.md").read_text() == (TREE / "docs/reference.md").read_text()
    for name in READMES:
        assert (tmp_path / name).read_text() == (TREE / name).read_text(), name


def test_the_reference_describes_every_target_variable_and_setting() -> None:
    page = (TREE / "docs/reference.md").read_text("utf-8")
    help_page = run("make", "help").stdout
    names = re.findall(r"^  ([a-z][a-z-]*|[A-Z_]+) ", help_page, re.MULTILINE)
    assert len(names) > 30
    for name in names:
        assert re.search(rf"^\| `{name}` \| .*[a-z]{{3}}", page, re.MULTILINE), name
    for key in SCHEMA:
        row = re.search(rf"^\| `{re.escape(key.split('.*')[0])}[`.].*\| (.*) \|$", page, re.MULTILINE)
        assert row, key
    blocks = r"^\| `(?:onnx|optimize|int8|atc|ais_bench|perf|bench|infer|compare)\..*"
    for row in re.findall(blocks, page, re.MULTILINE):
        meaning = re.split(r" (?<!\\)\| ", row)[-1]
        assert re.search(r"[a-z]{3}", meaning), f"no comment in params.yaml: {row}"


def test_make_docs_refuses_a_readme_without_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("no marks\n")
    files = ("--makefile", TREE / "Makefile", "--params", TREE / "params.yaml", "--out", tmp_path / "reference.md")
    refused(script_here("write_docs", *files, "--readmes", page), "README.md", "marks")
    assert page.read_text() == "no marks\n"
    assert not (tmp_path / "reference.md").exists()  # all pages or none


def test_a_comment_belongs_to_the_key_below_it_in_the_same_column() -> None:
    blocks = comments.blocks_of(
        "# One.\none:\n  # Above,\n  a: 1  # beside\n  b: [x, y]  #close\n  # of nothing\n\n# Two.\ntwo: 2"
    )
    assert [(block.name, block.comment) for block in blocks.values()] == [("one", "One."), ("two", "Two.")]
    assert blocks["one"].settings == [("one.a", "1", "Above, beside"), ("one.b", "x y", "close")]
    assert blocks["two"].settings == [("two", "2", "")]


def test_make_accepts_every_command_of_the_pages(fresh: Project) -> None:
    (fresh.tree / "file").touch()
    for command in sorted(set().union(*map(documents.make_commands, documents.PAGES))):
        words = shlex.split(command)
        words = [re.sub(rf"^({'|'.join(PATHS)})=.*", r"\1=file", word) for word in words[words.index("make") + 1 :]]
        words = [re.sub("^PARAMS=.*", "PARAMS=params.yaml", re.sub("^T=.*", "T=file", word)) for word in words]
        words = [word for word in words if word not in ("…", "TARGET") and not word.startswith("PYTHON=")]
        assert not any("<" in word for word in words), f"{command}: not a command that can be typed"
        settings = {word.partition("=")[0] for word in words}
        words += [f"{name}={value}" for name, value in (("ROOT", "."), ("CHIP", "")) if name not in settings]
        words += ["PYTHON="] if "setup" in words else []  # make setup refuses another interpreter
        root = next(word for word in words if word.startswith("ROOT="))[5:]
        result = fresh.tree / root / "results/cpu/bs1/accuracy.txt"  # make report refuses a ROOT without results
        result.parent.mkdir(parents=True, exist_ok=True)
        result.touch()
        done = fresh.make("-n", *words, check=False)
        assert done.returncode == 0, (command, done.stderr)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A tree in which `make demo` has run on a smaller sample, with what it printed in demo.log."""

    def build(tree: Path) -> None:
        project = new_project(tree)
        done = project.make("demo")
        (tree / "demo.log").write_text(done.stdout)

    return Project(shared_once(tmp_path_factory, "demo", build))


SAMPLE = [t for page in documents.ENGLISH if page.name != "ascend.md" for t in documents.transcripts(page)]


@pytest.mark.parametrize("shown", SAMPLE, ids=lambda shown: f"{shown.page}: {shown.command}")
def test_a_transcript_shows_what_a_run_prints(shown: documents.Transcript, demo: Project) -> None:
    words = shlex.split(shown.command)
    if words[1] == "demo":
        output = (demo.tree / "demo.log").read_text()
    else:
        done = demo.make(*words[1:], check=False)
        output = done.stdout + done.stderr
    missing = documents.missing_line(shown, output)
    assert not missing, f"not printed: {missing}\n{output}"


def test_every_message_of_troubleshooting_is_in_the_code() -> None:
    sources = [*SCRIPTS.rglob("*.py"), *SCRIPTS.rglob("*.sh"), TREE / "Makefile"]
    literals = ""
    for path in sources:
        code = re.sub(r'"\s+f?"|\s+', " ", path.read_text("utf-8"))
        literals += re.sub(r"\{[^{}]*\}" if path.suffix == ".py" else r"\$\{[^{}]*\}", "\0", code)
    rows = re.findall(r"^\| (`.*?) \|", (TREE / "docs/troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) > 20
    for row in rows:
        for message in re.findall(r"`([^`]+)`", row):
            parts = [part.strip() for part in re.split(r"…|<[^>]*>|\b[0-9.]+\b", message)]
            for part in filter(None, parts):
                assert part in literals, f"{message}: {part!r} is in no message"


def test_make_help_shows_no_password_or_token() -> None:
    page = run("make", "help", MIRROR="https://user:secret@host/folder?token=secret").stdout
    assert "https://…@host/folder?…" in page
    assert "secret" not in page


def test_readme_quotes_the_published_accuracy_of_params() -> None:
    for name in READMES:
        for figure in PARAMS["published"]["accuracy"].values():
            assert figure in (TREE / name).read_text("utf-8"), name


def test_the_ascend_page_installs_what_the_doctor_looks_for() -> None:
    page = (TREE / "docs/ascend.md").read_text("utf-8")
    installed = set(" ".join(re.findall(r"^python3 -m pip install (.*)", page, re.MULTILINE)).split())
    assert {*_tools.MODULES.values(), *_tools.ADVISED.values(), "'numpy<2'"} <= installed
