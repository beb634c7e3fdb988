"""params.yaml + scripts/ -> .make/: for each key a small file, for each script a copy, written only when bytes differ.

make's rules depend on those, so that only what a change concerns is rebuilt (Kbuild's include/config). Writes
.make/inputs.mk, which the Makefile includes: `P.<key> := value`, `CHIP.<chip>.<what> := value` and, for the inputs a
user may give, who obtains each. The only reader of params.yaml, but for make's look at the chips' names. Exits 1 on
any key that is unknown, missing, of the wrong type, or that make or a shell would read differently.
"""

from __future__ import annotations

import _build
from _build import die, read_record

import ast
import difflib
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import import_input
import yaml

HELD = {"archive": "data/archive.tar.gz", "weights": "models/checkpoint.pkl"}
SAFE = re.compile(r"[\w.,:/=+~-]+( [\w.,:/=+~-]+)*", re.ASCII)


def integer(low: int, high: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(r"\d{1,10}", text) or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return str(int(text))

    return check


def number(text: str) -> str:
    if not re.fullmatch(r"\d+(\.\d+)?([eE]-?\d+)?", text) or not float(text) < 1e6:
        raise ValueError("a number from 0 to 1e6")
    return text


def decimal(text: str) -> str:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        raise ValueError("a number as 95.34")
    return text


def figure(text: str) -> str:
    if not float(decimal(text)):
        raise ValueError("a number above 0")
    return text


def gate(text: str) -> str:
    words = text.split(" ")
    if len(words) != 2:
        raise ValueError("a reference and a tolerance as 95.34 0.10")
    return f"{figure(words[0])} {decimal(words[1])}"


def one_of(*words: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in words:
            raise ValueError("one of " + ", ".join(words))
        return text

    return check


def hexadecimal(length: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(f"[0-9a-f]{{{length}}}", text):
            raise ValueError(f"{length} hexadecimal digits")
        return text

    return check


def batch_sizes(text: str) -> str:
    return " ".join(integer(1, 64)(word) for word in text.split())


def names(text: str) -> str:
    if not all(re.fullmatch(r"[\w-]+", word) for word in text.split()):
        raise ValueError("all, or a list of names")
    return text


def urls(text: str) -> str:
    if not all(re.fullmatch(r"https?://[^/]+/\S*[^/\s]", word) for word in text.split()):
        raise ValueError("http or https urls that do not end in /")
    return text


def chip(text: str) -> str:
    if not re.fullmatch(r"engine=\w+( \w+=\S+)*", text):  # atc reads a-b as a_b: one spelling is enough
        raise ValueError("engine=NAME and the engine's options as words name=value, names with _, not -")
    return text


def flags(text: str) -> str:
    if text != "none" and not re.fullmatch(r"\w+=\S+( \w+=\S+)*", text):
        raise ValueError("none, or a list of name=value")
    return text


# Of atc's --precision_mode, contract 1.4; --precision_mode_v2 goes into flags.
PRECISIONS = (
    *("default", "force_fp16", "force_fp32", "cube_fp16in_fp32out", "allow_fp32_to_fp16", "must_keep_origin_dtype"),
    *("allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16", "allow_fp32_to_bf16"),
)

# A `*` stands for names that the file is free to choose; all other keys must be there.
SCHEMA: Dict[str, Callable[[str], str]] = {
    "download.timeout": integer(1, 3600),
    "download.tries": integer(1, 20),
    "cifar10.urls": urls,
    "cifar10.bytes": integer(1, 2**32),
    "cifar10.sha256": hexadecimal(64),
    "cifar10.test_batch_md5": hexadecimal(32),
    "upstream.urls": urls,
    "upstream.model_92_sgd": hexadecimal(40),
    "upstream.basic_layers": hexadecimal(40),
    "upstream.attention_module": hexadecimal(40),
    "upstream.residual_attention_network": hexadecimal(40),
    "sample.seed": integer(0, 2**31 - 1),
    "sample.train_images": integer(10, 50000),
    "sample.test_images": integer(10, 10000),
    "onnx.opset": integer(11, 17),
    "onnx.check_images": integer(1, 10000),
    "onnx.tolerance": number,
    "optimize.resize": one_of("nearest", "exact", "none"),
    "optimize.check_images": integer(1, 10000),
    "optimize.tolerance": number,
    "chips.*": chip,
    "int8.images": integer(20, 50000),
    "int8.loss": decimal,
    "atc.precision_mode": one_of(*PRECISIONS),
    "atc.flags": flags,
    "atc.log": one_of("debug", "info", "warning", "error", "null"),
    "atc.time_limit": integer(1, 10**6),
    "atc.memory": integer(1, 1000),
    "ais_bench.time_limit": integer(1, 10**6),
    "batch_sizes": batch_sizes,
    "infer.format": one_of("txt", "bin", "npy"),
    "perf.warmup": number,
    "perf.min_duration": number,
    "perf.min_queries": integer(1, 10**6),
    "perf.tolerance": number,
    "perf.drift": number,
    "perf.spread": number,
    "perf.others": number,
    "perf.search": integer(1, 10**6),
    "compare.tolerance": number,
    "bench.rounds": integer(1, 1000),
    "bench.seconds": number,
    "bench.images": integer(1, 10000),
    "bench.loss": decimal,
    "bench.contenders": names,
    "published.accuracy.*": figure,
    "published.throughput.*.*": figure,
    "verify.*.*": gate,
}


def schema_key(key: str) -> str | None:
    """The schema's line for `key`, where `*` stands for one part of it."""
    parts = key.split(".")
    for line in SCHEMA:
        pattern = line.split(".")
        if len(pattern) == len(parts) and all(p in ("*", q) for p, q in zip(pattern, parts)):
            return line
    return None


def leaves(path: Path, node: yaml.Node | None, prefix: str = "") -> List[Tuple[str, str, int]]:
    """Every scalar below `node` as (dotted key, text, line number); a list of scalars is one text of words."""
    if isinstance(node, yaml.ScalarNode):
        return [(prefix, node.value, node.start_mark.line + 1)]
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [(prefix, " ".join(item.value for item in node.value), node.start_mark.line + 1)]
    if not isinstance(node, yaml.MappingNode):
        die(path, f"{prefix or 'the file'} is not a map of keys", "see the comments in it, or git checkout params.yaml")
    found: List[Tuple[str, str, int]] = []
    seen = set()
    for name, value in node.value:
        where = f"{path}:{name.start_mark.line + 1}"
        if not isinstance(name, yaml.ScalarNode) or not re.fullmatch(r"[\w-]+", name.value, re.ASCII):
            die(where, f"{name.value!r} is no name of a key", "use letters, digits, _ and -")
        if name.value in seen:
            die(where, f"{name.value} stands there twice", "keep one of the two")
        seen.add(name.value)
        found += leaves(path, value, f"{prefix}.{name.value}" if prefix else name.value)
    return found


def read_params(path: Path) -> Dict[str, str]:
    """{dotted key: checked text} of params.yaml. Texts are never read as YAML numbers: 910_9392 stays a name."""
    try:
        document = yaml.compose(path.read_text("utf-8"), Loader=yaml.SafeLoader)
        found = leaves(path, document)
    except RecursionError:
        die(path, "an alias in it stands for itself", "write the value out")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(getattr(error, "problem", error)).split())
        mark = getattr(error, "problem_mark", None)
        die(f"{path}:{mark.line + 1}" if mark else path, f"not YAML: {problem}", "mend that line")
    params: Dict[str, str] = {}
    for key, text, line in found:
        where = f"{path}:{line}"
        match = schema_key(key)
        if match is None:
            near = difflib.get_close_matches(key, SCHEMA, 3, 0.5)
            die(where, f"{key} is no key", f"did you mean {' or '.join(near)}?" if near else "remove it")
        try:
            params[key] = SCHEMA[match](text)
        except ValueError as wanted:
            die(where, f"{key} is {text!r}", f"give {wanted}")
        if match == "published.throughput.*.*" and not re.fullmatch("[1-9]|[1-5][0-9]|6[0-4]", key.rsplit(".", 1)[1]):
            die(where, f"{key} is of no batch size", "give one of 1 to 64")
        if not SAFE.fullmatch(text):
            die(where, f"{key}: {text!r} is empty or would be read differently by make or a shell", "use plain words")
    for line_of_schema in SCHEMA:
        if not any(schema_key(key) == line_of_schema for key in params):
            die(path, f"{line_of_schema} is missing", "add it, or git checkout params.yaml")
    return params


def declared(module: Path) -> Dict[str, Any]:
    """What an engine's module, which is read and not run, says of itself by constants: see engines/."""
    found = re.findall(
        r"^(ENDING|NEEDS|VALUES|OPTIONS|LIMITS|INT8) = ([^#\n]+)", module.read_text("utf-8"), re.MULTILINE
    )
    unsaid: Dict[str, Any] = {"NEEDS": (), "VALUES": {}, "OPTIONS": (), "LIMITS": (), "INT8": ""}
    return {**unsaid, **{name: ast.literal_eval(text.strip()) for name, text in found}}


def words_of(params: Dict[str, str], key: str) -> Dict[str, str]:
    """What a key of params.yaml says as an engine's option: by its last name, or by its own words if it is `flags`."""
    name = key.rsplit(".", 1)[1]
    if name != "flags":
        return {name: params[key]}
    return dict(word.split("=", 1) for word in params[key].split() if "=" in word)


def chip_lines(path: Path, params: Dict[str, str], scripts: Path) -> List[str]:
    """make variables of each chip: engine, that engine's file ending, its options, and limits that shape no bytes.
    Adds what it derives to `params`."""
    lines = []
    for key, text in list(params.items()):
        if not key.startswith("chips."):
            continue
        name = key.split(".", 1)[1]
        options = dict(word.split("=", 1) for word in text.split())
        engine, published = options.pop("engine"), options.pop("published", "")
        module = scripts / "engines" / f"{engine}_compile.py"
        if name == "reference":
            die(path, f"{key}: results/reference is the reference engine's folder", "give the chip another name")
        if not module.is_file():
            have = sorted(p.name[: -len("_compile.py")] for p in module.parent.glob("*_compile.py"))
            die(path, f"{key}: no engine {engine}", f"give one of {', '.join(have)}")
        if published and f"published.accuracy.{published}" not in params:
            die(path, f"{key}: no published.accuracy.{published}", "name a device that stands there")
        constants = declared(module)
        for need in constants["NEEDS"]:
            if need not in options:
                die(path, f"{key}: no {need}=", f"add it, as other chips of engine {engine} have it")
        for option, values in constants["VALUES"].items():
            if options[option] not in values:
                die(path, f"{key}: {option}={options[option]}", f"give one of {', '.join(values)}")
        for shared in reversed(constants["OPTIONS"]):
            options = {**words_of(params, shared), **options}
        limits = " ".join(f"{limit}={params[limit]}" for limit in constants["LIMITS"])
        params[f"options.{name}"] = " ".join(f"{k}={v}" for k, v in sorted(options.items()))
        lines += [f"CHIP.{name}.engine := {engine}", f"CHIP.{name}.ending := {constants['ENDING']}"]
        lines += [f"CHIP.{name}.limits := {limits}"]
        lines += [f"CHIP.{name}.int8 := {constants['INT8'] if constants['INT8'] in text.split() else ''}"]
        params[f"quote.{name}"] = f"{published} {params[f'published.accuracy.{published}']}" if published else ""
        for source in ("cifar10", "sample"):
            params.setdefault(f"verify.{source}.{name}", "")
    return lines


def quotations(params: Dict[str, str]) -> List[str]:
    """make variables Q.<what>: words by which pages quote and judge, and which shape no artifact; see report.py."""

    def below(prefix: str) -> Dict[str, str]:
        return {key[len(prefix) :].replace(".", ":"): text for key, text in params.items() if key.startswith(prefix)}

    devices = {chip: text.split(" ")[0] for chip, text in below("quote.").items()}
    gates = {key: text.replace(" ", ",") for key, text in below("verify.").items() if text}
    found = {"accuracy": below("published.accuracy."), "throughput": below("published.throughput.")}
    found.update(chips=devices, gates=gates)
    return [f"Q.{what} := {' '.join(f'{k}={v}' for k, v in words.items())}" for what, words in found.items()]


def source_of(root: Path, given: str, origins: List[str]) -> str:
    """The source of what ROOT does not hold: as given, else as what it holds, else cifar10. Mixing them is refused."""
    holds = "sample" if "sample" in origins else "cifar10"
    if given and any(origins) and given != holds:
        remedy = f"give another ROOT=, leave SOURCE out, or remove {' and '.join(str(root / h) for h in HELD.values())}"
        die(f"SOURCE={given}", f"ROOT={root} holds inputs of {holds}", remedy)
    return given or (holds if any(origins) else "cifar10")


def given_before(record: _build.Record) -> object:
    """The digest that a given folder had when its tar was made; None if it was no given one."""
    key = record.get("key")
    return key.get("given") if isinstance(key, dict) else None


def write_if_changed(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        _build.write_text(path, data.decode("utf-8"))


def main() -> None:
    parser = _build.Parser(__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--requirements", type=Path, required=True)
    parser.add_argument("--scripts", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--source", default="")
    for name in HELD:
        parser.add_argument(f"--{name}", default="", help="the path that the user gave")
        parser.add_argument(f"--{name}-stat", default="", help="what make saw of it: kept once ROOT holds it")
    args = parser.parse_args()
    params = read_params(args.params)
    lines = chip_lines(args.params, params, args.scripts)
    given = {name: getattr(args, name) for name in HELD}
    digests = {name: import_input.digest_of_given(name, Path(path)) for name, path in given.items() if path}
    origins = {name: _build.origin_of(args.root / held) for name, held in HELD.items()}
    source = source_of(args.root, args.source, list(origins.values()))
    house = args.root / ".make"
    try:
        house.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        die(f"ROOT={args.root}", f"cannot be made or written ({error.strerror})", "give another ROOT=")
    with _build.locked(house / "inputs.mk"):
        files = {f"params/{key}": text.encode() + b"\n" for key, text in params.items()}
        files.update({f"scripts/{p.relative_to(args.scripts)}": p.read_bytes() for p in args.scripts.rglob("*.py")})
        files["requirements.txt"] = args.requirements.read_bytes()
        lines += quotations(params)
        lines += [f"I.source := {source}"]
        for name, held in HELD.items():
            note = house / "given" / name
            record = read_record(_build.record_of(args.root / held))
            if name not in digests:
                files[f"given/{name}"] = note.read_bytes() if note.is_file() else b""
            elif origins[name] not in ("", "sample") and digests[name] in (record.get("sha256"), given_before(record)):
                files[f"given/{name}"] = digests[name].encode() + b"\n"
                _build.write_text(note.with_suffix(".stat"), getattr(args, f"{name}_stat") + "\n")
            else:
                _build.write_text(note, digests[name] + "\n")  # newer than what ROOT holds, so make imports it
            sampled = name not in digests and (origins[name] or source) == "sample"
            lines += [f"I.{name}.by := {'sample' if sampled else ''}"]
        lines += [f"P.{key} := {text}" for key, text in sorted(params.items())]
        lines += ["CHIPS := " + " ".join(key.split(".", 1)[1] for key in params if key.startswith("chips."))]
        for name, data in files.items():
            write_if_changed(house / name, data)
        for folder in ("params", "scripts"):
            for path in (house / folder).rglob("*"):
                if path.is_file() and path.relative_to(house).as_posix() not in files:
                    path.unlink()
        write_if_changed(house / "inputs.mk", ("\n".join(lines) + "\n").encode())
        _build.renew(house / "inputs.mk")


if __name__ == "__main__":
    main()
