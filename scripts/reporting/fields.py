"""Descriptions of every field of the machine-readable result files. make docs writes them to docs/reference.md.

A field of a JSON file is named by its keys, joined by dots. A * is a free name, [] an item of a list.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

Fields = Dict[str, str]

RECORD: Fields = {
    "source": "what the result is of: `cifar10` (all parts official), `sample` (all parts of the built-in sample), "
    "`own` (at least one part is yours) or `mixed` (official and sample parts)",
    "origins": "where each part comes from",
    "origins.data": "the test images: `official`, `sample` or `own`",
    "origins.checkpoint": "the same for the checkpoint; `own` also with your own graph or model",
    "origins.graph": "the same for the ONNX graph; a graph exported from a checkpoint has the checkpoint's origin",
    "origins.model": "the same for the compiled model",
    "run": "what may differ when the same result is computed again; leave it out of comparisons",
    "run.date": "UTC, when the result was computed. A result that is up to date keeps its date",
    "run.started": "UTC, when the command started that computed it",
    "run.requirements": "digest of requirements.txt",
    "run.host_name": "network name of the computer",
    "run.cpu": "model name of its CPU",
    "run.python": "version of Python",
    "run.packages.*": "versions of the installed packages of requirements.txt",
    "run.at_start.*": "what acted before the command started: LD_PRELOAD, LD_AUDIT, LD_LIBRARY_PATH, GLIBC_TUNABLES, "
    "path and digest of a sitecustomize or usercustomize module, and of .pth files with code in the user's folder of "
    "packages; missing without them",
    "run.inference.*": "host_name, cpu, python, packages and at_start of the run that computed the outputs",
    "run.version": "version of this project, from pyproject.toml",
    "run.commit": "git commit of this project; missing without git",
    "run.clean": "whether all tracked files were those of the commit",
    "run.paths.*": "where your own data, checkpoint, graph or model was imported from, as you typed it; missing for a "
    "file that was put into ROOT by hand",
    "sha256": "digest of the text page, for example accuracy.txt",
    "record_sha256": "digest of all other fields, as JSON with sorted keys, without spaces, in ASCII",
    "key": "the cache key: the result is up to date as long as it is the same",
    "key.inputs.*": "digests and provenance of the inputs",
    "key.flags.*": "settings",
    "key.scripts.*": "digests of the scripts",
    "key.versions.*": "versions of packages",
    "inherited": "the names in `provenance` that come from the inputs",
}
PROVENANCE: Fields = {
    "data_origin": "as `origins.data`",
    "checkpoint_origin": "as `origins.checkpoint`",
    "given": "`own .onnx` or `own .om` if you passed one",
    "archive": "digest of the dataset archive",
    "checkpoint": "digest of the checkpoint",
    "onnx": "digest of the exported graph",
    "optimized": "digest of the optimized graph",
    "int8": "digest of the int8 graph",
    "calibration": "digest of the training images for int8",
    "calibration_origin": "where they come from: `official`, `sample` or `own`",
    "model": "digest of the compiled model",
    "bins": "digest of the test images as bins",
    "labels": "digest of labels.txt",
    "outputs": "digest of the outputs",
    "reference": "digest of the outputs of the reference engine",
    "predictions": "digest of the predicted classes, one per line",
    "opset": "ONNX opset of the export",
    "resize": "optimize.resize of params.yaml",
    "chip": "the chip, as in `CHIP`",
    "engine": "engine of the chip",
    "options": "options of the engine",
    "batch_size": "the batch size, as in `BS`",
    "precision": "precision of the compiled model",
    "rest": "precision of the operators that are not int8",
    "instructions": "instruction set that OpenVINO used",
    "runtime": "name and version of the runtime",
    "threads": "threads of the runtime",
    "streams": "requests that ran in parallel",
    "images_a_request": "images of one request, at most",
    "device": "name and number of the NPU",
    "driver": "version of its driver",
    "host": "model name of the CPU",
    "python": "version of Python",
    "numpy": "version of numpy",
}
LATENCY: Fields = {
    "mean": "mean",
    "min": "shortest query",
    "max": "longest query",
    **{f"p{n}": f"percentile {n}" for n in (50, 90, 99)},
}
COPY: Fields = {"min": "shortest copy", "mean": "mean of the copies", "max": "longest copy"}
CACHE: Fields = {
    "seen_ms": "median of repeated inputs, ms",
    "new_ms": "median of new inputs, ms",
    "pairs": "number of pairs",
}


def below(prefix: str, fields: Fields, note: str = "") -> Fields:
    return {f"{prefix}.{name}": text + note for name, text in fields.items()}


def device_fields() -> Fields:
    """The fields of `device` in perf.json."""
    rate = {"throughput_images_per_s": "images/s of the device alone, as at the top"}
    return {
        "device": "the device alone",
        "device.name": "its name",
        **below("device", rate),
        **below("device.latency_ms", LATENCY, ", ms"),
        **below("device.h2d_ms", COPY, " to the NPU, ms; missing if ais_bench does not report it"),
        **below("device.d2h_ms", COPY, " from the NPU, ms; missing if ais_bench does not report it"),
        "device.h2d_ms": "copies to the NPU, which device time does not include",
        "device.d2h_ms": "copies from the NPU, which device time does not include",
        "device.resolution_ms": "resolution of the times on an NPU, ms; missing with the older ais_bench",
    }


CLASS_NUMBER = "0 to 9: plane, car, bird, cat, deer, dog, frog, horse, ship, truck"
ACCURACY: Fields = {
    "top1": "fraction of correct predictions",
    "correct": "number of correct predictions",
    "total": "number of test images",
    "wilson95": "Wilson's 95 % interval of `top1`: lower and upper end",
    "classes": "the same by class",
    "classes.*.correct": "correct predictions of the images of a class",
    "classes.*.total": "test images of that class",
    "confusion": "numbers of images: a row for each true class, a column for each predicted class",
    "predictions_sha256": "digest of predictions.csv",
    "mistakes": "the most confident wrong predictions, at most 24",
    "mistakes[].image": "number of the image",
    "mistakes[].label": f"its class, {CLASS_NUMBER}",
    "mistakes[].found": "its predicted class",
    "mistakes[].probability": "softmax of the prediction",
    "published": "the published figure for these inputs; null if there is none",
    "published.device": "device of the published figure",
    "published.top1": "published Top-1, a fraction",
    "published.ratio": "100 × `top1` / published Top-1 in per cent",
    "digests": "of what the result depends on, and of the predictions",
    "digests.model": "digest of the compiled model",
    "digests.labels": "digest of labels.txt",
    "digests.predictions": "digest of the predicted classes, one per line",
}
SCENARIO: Fields = {
    "queue": "`one batch in flight` or `queue kept full`; an NPU has one batch in flight in both scenarios",
    "streams": "requests that ran in parallel, on a CPU",
    "images_a_request": "images of one request, at most, on a CPU",
    "queries": "number of timed queries",
    "images": "number of timed images, without padding",
    "throughput_images_per_s": "images/s",
    **below("latency_ms", LATENCY, ", ms; only in SingleStream"),
    "stability": "what decides whether the run is stable",
    "stability.drift": "median of the last third / median of the first third − 1",
    "stability.spread": "(p90 − p10) / p50; in Offline of the mean times of 30 parts of the run",
    "stability.others": "share of the CPUs, or of the NPU, that other processes used; null: unknown",
    **below("stability.limits", {name: f"perf.{name} of params.yaml" for name in ("drift", "spread", "others")}),
    "stability.why": "a text for each value above its limit",
    "check": "comparison of the timed outputs with those of inference",
    "check.answers": "outputs compared with those of the accuracy run",
    "check.largest_error": "largest relative error",
    "check.labels_changed": "changed predictions",
    "times_ms": "time of each query, ms; with a full queue the time between the ends of two queries",
}
PERF: Fields = {
    "batch_size": "images of a query",
    "throughput_images_per_s": "images/s in scenario Offline, device time",
    "latency_ms": "latency of a query in scenario SingleStream",
    **below("latency_ms", LATENCY, ", ms, device time"),
    "queries": "number of timed queries in scenario SingleStream",
    **device_fields(),
    "end_to_end": "with reading inputs and writing outputs",
    "end_to_end.what": "what this time includes",
    "end_to_end.throughput_images_per_s": "images/s with reading inputs and writing outputs",
    **below("end_to_end.latency_ms", LATENCY, ", ms"),
    "end_to_end.runs": "runs of ais_bench, on an NPU",
    "stable": "whether the three values of `stability` are within their limits in both scenarios",
    "scenarios": "the two scenarios by MLPerf's names: `SingleStream` and `Offline`",
    **below("scenarios.*", SCENARIO),
    "warmup": "before the timed run",
    "warmup.seconds": "duration of the warm-up",
    "warmup.queries": "queries of the warm-up",
    "cache": "check that the engine does not return cached results",
    **below("cache.images_of_the_set", CACHE, "; repeated: test images"),
    **below("cache.same_batch_again", CACHE, "; repeated: the same batch"),
    "method": "how it was timed",
}
COMPARE: Fields = {
    "images": "number of test images",
    "top1": "fraction of correct predictions",
    "reference_top1": "the same of the reference engine",
    "agreement": "fraction of equal predictions",
    "mended": "predictions that are only wrong in the reference engine (fixed)",
    "broken": "predictions that are only right in the reference engine",
    "other": "predictions that changed and are wrong in both",
    "mcnemar_p": "p of McNemar's exact test",
    "logits": "errors of the logits",
    "logits.largest_error": "largest |difference| of the logits",
    "logits.largest_error_image": "number of its image",
    "logits.mean_error": "mean |difference|",
    "logits.relative_error": "largest |difference| / largest |logit| of the reference engine",
    "logits.cosine_mean": "mean cosine similarity of an image's logits",
    "logits.cosine_min": "smallest cosine similarity",
    "flips": "the changed predictions",
    "flips[].image": "number of the image",
    "flips[].label": f"its class, {CLASS_NUMBER}",
    "flips[].reference": "prediction of the reference engine",
    "flips[].here": "prediction of this result",
    "reference": "the reference engine",
    "reference.runtime": "name and version of the reference engine's runtime",
    "reference.onnx": "digest of the graph that it ran",
    "reference.threads": "its threads",
    "reference.precision": "its precision: float32, or that of your own graph",
    "reference.given": "`own .onnx` if the graph is your own",
}
LAYERS: Fields = {
    "tolerance": "compare.tolerance of params.yaml",
    "tensors": "number of tensors that both graphs have",
    "first": "name of the first tensor above the tolerance; null if there is none",
    "errors.*": "relative error of each tensor, up to the first one above the tolerance",
}
PREDICTIONS: Fields = {
    "image": "number of the test image, from 0",
    "label": f"its class, {CLASS_NUMBER}",
    "prediction": "predicted class",
    "probability": "softmax of the logits, of the predicted class",
    "correct": "true or false",
}
COLUMNS: Fields = {
    "source": RECORD["source"],
    **{f"{part}_origin": f"as `origins.{part}` in the JSON files" for part in ("data", "checkpoint", "graph", "model")},
    **{f"{part}_path": f"as `run.paths.{part}`" for part in ("data", "checkpoint", "graph", "model")},
    **{name: f"as `run.{name}`" for name in ("date", "host_name", "cpu", "version", "commit", "clean")},
}
CONDITIONS: Fields = {
    name: PROVENANCE[name]
    for name in (
        *("resize", "precision", "rest", "instructions", "runtime", "threads", "streams", "images_a_request"),
        *("device", "driver", "host", "model"),
    )
}
RATES: Fields = {
    "throughput_images_per_s": "images/s in scenario Offline, device time",
    **{
        f"p{n}_ms": f"latency of a query in scenario SingleStream, percentile {n}, ms, device time"
        for n in (50, 90, 99)
    },
    "end_to_end_images_per_s": "images/s with reading inputs and writing outputs",
    "queries": "number of timed queries in scenario SingleStream",
    "stable": "true or false, see [performance](performance.md#stability)",
    "throughput_scenario": "scenario of the throughput and how it was run: `Offline, queue kept full`; on an NPU "
    "`Offline, one batch in flight`",
    "latency_scenario": "the same for the latency: `SingleStream, one batch in flight`",
}
PERF_CSV: Fields = {
    "batch_size": "the batch size, as in `BS`",
    **RATES,
    "best": "whether this batch size has the highest throughput",
    "ratio_to_published_*": "throughput / published throughput of a device; empty if none was published",
    "chip": "the chip, as in `CHIP`",
    **CONDITIONS,
    **COLUMNS,
}
RESULTS_CSV: Fields = {
    "chip": "the chip, as in `CHIP`",
    "batch_size": "the batch size, as in `BS`",
    "top1": "fraction of correct predictions",
    "correct": "number of correct predictions",
    "total": "number of test images",
    "wilson95_low": "lower end of Wilson's 95 % interval of `top1`",
    "wilson95_high": "upper end",
    "gate": "`passed`, `failed` or `no reference`",
    "agreement": "fraction of predictions equal to those of the reference engine",
    **RATES,
    "accuracy_date": "date of the accuracy",
    "perf_date": "date of the measurement",
    **COLUMNS,
    "date": "the newest date of the row",
    **CONDITIONS,
}
JUNIT: Fields = {
    "testsuite: tests": "number of results; 1 if make stopped before the gate",
    "testsuite: failures": "results that failed the gate",
    "testsuite: errors": "records that are missing or damaged; in the file of `make verify` and `make verify-all` also "
    "results without a limit, and one if make stopped before the gate",
    "testsuite: skipped": "results without a limit, written by `make report`",
    "testcase: classname": "the chip; `make` if make stopped before the gate",
    "testcase: name": "batch size and source; without source if the record is missing or damaged",
    "failure, error, skipped: message": "the reason and the remedy",
    "property top1": "fraction of correct predictions",
    **{f"property {name}": text for name, text in COLUMNS.items()},
}
BENCH: Fields = {
    "made_from": "the source, as a sentence",
    "images": "images of the accuracy check",
    "macs_an_image": "multiply-adds of the graph for an image",
    "conditions.*": "CPU, instructions, threads, versions, load from other processes (`others`), rounds, seconds",
    "contenders.*.what": "each contender: what it is",
    "contenders.*.precision": "its precision",
    "contenders.*.conditions.*": "its runtime and threads",
    "contenders.*.best": "its best batch size, or choice of options",
    "contenders.*.tried.*": "images/s of each choice",
    "contenders.*.gate.*": "its Top-1 against the reference engine",
    "contenders.*.laps[].*": "raw figures of each round",
    "left_out.*": "why a contender was not compared",
    "series.*": "images/s, or seconds, in each round",
    "figures": "the ratios and durations",
    "figures[].name": "what is compared",
    "figures[].above": "the series above the line",
    "figures[].below": "the series below it; empty for a single series",
    "figures[].wanted": "wanted value of the median; null if there is none",
    "figures[].at_most": "whether `wanted` is a maximum",
    "figures[].ceiling": "the series that limits it",
    "figures[].ratios": "the value of each round",
    "figures[].median": "their median",
    "figures[].min": "the smallest",
    "figures[].max": "the largest",
    "figures[].bounds": "the value of each round at the ceiling",
    "figures[].bound": "their median",
    "figures[].counts": "false if a contender failed or was excluded",
    "figures[].verdict": "reached, not reached, or a reason",
    "whole.*": "time and peak memory of whole processes, by stage",
    "profile.*": "time of each chip by operator, relative to the matrix product and to the memory bandwidth",
}
RECORDS = {**RECORD, "provenance": "what the result comes from", **below("provenance", PROVENANCE)}
FILES: List[Tuple[str, str, Fields]] = [  # (heading, what it is, its own fields)
    ("Fields that all JSON files of results have", "Of these, a file contains those that apply.", RECORDS),
    ("accuracy.json", "`results/<chip>/bs<n>/accuracy.json`, by `make accuracy`.", ACCURACY),
    ("perf.json", "`results/<chip>/bs<n>/perf.json`, by `make perf`.", PERF),
    ("compare.json", "`results/<chip>/bs<n>/compare.json`, by `make compare`.", COMPARE),
    ("layers.json", "`results/<chip>/bs<n>/layers.json`, by `make compare LAYERS=1`.", LAYERS),
    ("bench.json", "`results/bench.json`, by `make bench`.", BENCH),
    (
        "predictions.csv",
        "`results/<chip>/bs<n>/predictions.csv`, by `make accuracy`: a row for each image.",
        PREDICTIONS,
    ),
    ("perf.csv", "`results/<chip>/perf.csv`, by `make perf-all` and `make best`: a row for each batch size.", PERF_CSV),
    ("results.csv", "`results/results.csv`, by `make report`: a row for each chip and batch size.", RESULTS_CSV),
    ("junit.xml", "`results/junit.xml`, by `make verify`, `make verify-all` and `make report`.", JUNIT),
]
