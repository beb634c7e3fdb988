#!/bin/sh
# Removes what make built below ROOT; prints what it removes and what it keeps.
# Usage: clean.sh clean|clean-results|distclean ROOT NETWORK
set -u
target=$1 network=$3
case $2 in
    . | ./) root= ;;
    *) root=${2%/}/ ;;
esac

# The first folder of those that find is given whose files this user may not list or remove.
denied_folder() { find "$@" -type d ! \( -readable -writable -executable \) -print -quit 2> /dev/null; }

# Before anything is removed. The ROOT of another user may also look as if make had built nothing there.
denied=$(denied_folder "${root:-.}" "${root}data" "${root}models" -maxdepth 0)
denied=${denied:-$(denied_folder "$root.make" "${root}data/bin" "${root}models/onnx" "${root}models/optimized" \
    "${root}models/int8" "${root}models/om" "${root}results")}
if [ "$denied" ]; then
    echo "clean.sh: $denied: permission denied; use the account that built ROOT=${root:-.}" >&2
    exit 1
fi

# Removes those of the given files and folders that exist, and prints their names.
remove() {
    names=
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then
            rm -rf "$path" || exit
            names="$names $path"
        fi
    done
    if [ "$names" ]; then echo "  removed  $names"; fi
}

# True if make has built something in the folder $1: it has locks of artifacts. Otherwise its files are the user's.
is_built() { [ -d "$1.make/locks" ]; }

# Removes the folder $1. If it contains files that the find conditions after $1 do not match, these are the user's: then
# it removes the others only.
remove_folder() {
    folder=$1
    shift
    if [ ! -d "$folder" ]; then return; fi
    if [ ! "$(find "$folder" ! -type d ! \( "$@" \) -print -quit)" ]; then
        remove "$folder"
        return
    fi
    find "$folder" ! -type d \( "$@" \) -exec rm -f {} +
    find "$folder" -depth -type d -exec rmdir {} + 2> /dev/null # those that are empty
    echo "  removed   what make built in $folder; the other files are kept"
}

# Temporary files and folders of killed runs.
upstream='basic_layers|attention_module|residual_attention_network'
leftover=".*/(archive|bin|labels|calibration|checkpoint|download|$upstream)[^/]*\\.tmp\\.[0-9a-f]+"

# Removes what was built in the folder $1, except its results and .make.
remove_artifacts() {
    remove "$1data/bin" "$1data/labels.json" "$1data/labels.txt" "$1data/calibration.bin" "$1data/calibration.json"
    for kind in onnx optimized int8; do
        remove_folder "$1models/$kind" -name "$network.onnx" -o -name "$network.json" -o -name "$network.*.tmp.[0-9]*"
    done
    remove_folder "$1models/om" -path "$1models/om/*/${network}_bs[1-9]*" -o -path "$1models/om/*/bs[1-9]*.json" \
        -o -path "$1models/om/*/bs[1-9]*.log" -o -path "$1models/om/*/*.tmp.[0-9]*"
    find "$1data" "$1models" -maxdepth 2 -regextype posix-extended -regex "$leftover" -exec rm -rf {} + 2> /dev/null
}

# Removes the files of results below $1results: reports, the reference, and those in folders of a batch size, except
# measurements, which may have needed a device and hours. Other files there are the user's.
remove_results() {
    if [ ! -d "$1results" ]; then return; fi
    removed=$(find "$1results" ! -type d \( \
        \( -path "$1results/reference/*" -o -path "$1results/*/bs[1-9]/*" -o -path "$1results/*/bs[1-6][0-9]/*" \) \
        \( -path "*/outputs/*" -o -name "accuracy.*" -o -name "compare.*" -o -name predictions.csv \
        -o -name statement.json -o -name layers.json -o -name "*.log" \) -o -path "$1results/*.tmp.[0-9]*" \
        -o -path "$1results/report.html" -o -path "$1results/report.md" -o -path "$1results/results.csv" \
        -o -path "$1results/junit.xml" -o -path "$1results/bench.svg" \) -print -exec rm -f {} + | wc -l)
    if [ "$removed" -gt 0 ]; then echo "  removed   $1results: $((removed)) files"; fi
    find "$1results" -depth -mindepth 1 -type d -exec rmdir {} + 2> /dev/null # those that are empty
}

# Removes the measurements of the folder $1.
remove_measurements() {
    remove "$1results/bench.json" "$1results/"*/perf.csv "$1results/"*/bs*/perf.json \
        "$1results/"*/bs*/perf.statement.json "$1results/"*/bs*/perf.txt
    find "$1results" -depth -mindepth 1 -type d -exec rmdir {} + 2> /dev/null # those that are empty
}

# Prints the number of files of measurements in the folder $1.
count_measurements() {
    find "$1results" \( -name perf.json -o -name perf.txt -o -name perf.statement.json -o -name perf.csv \
        -o -name bench.json \) 2> /dev/null | wc -l
}

# Removes everything that make wrote in the folder $1 for the target $2.
clean() {
    if is_built "$1"; then
        if [ "$2" != clean-results ]; then remove_artifacts "$1"; fi
        remove_results "$1"
    fi
    if [ "$2" != clean ]; then remove_measurements "$1"; fi
    if [ "$2" != clean-results ]; then remove "$1.make"; fi
}

settings=$(cat "${root}.make/given/params" 2> /dev/null)
clean "$root" "$target"
case $target:$settings in
    clean-results:* | *: | *:params.yaml) ;;
    *) echo "  forgot    the settings file of this ROOT; set PARAMS=$settings again" ;;
esac
if [ "$target" = distclean ]; then
    remove "${root}data/archive.tar.gz" "${root}data/archive.json" "${root}models/checkpoint.pkl" \
        "${root}models/checkpoint.json" .venv .venv.lock
    for name in $(echo "$upstream" | tr '|' ' '); do
        remove "${root}models/upstream/$name.py" "${root}models/upstream/$name.json"
    done
    rmdir "${root}models/upstream" 2> /dev/null
fi
if [ ! "$root" ] && [ "$target" != clean-results ]; then
    if [ "$target" = clean ] && [ "$(count_measurements demo/)" -gt 0 ]; then
        clean demo/ clean # its inputs are generated, but the measurements belong to them
    else
        remove demo
    fi
fi

# The measurements that are left.
for folder in "$root" demo/; do
    count=$(count_measurements "$folder")
    if [ "$count" -gt 0 ]; then
        shown=${folder:+ ROOT=${folder%/}}
        echo "  kept      measurements in ${folder}results ($((count)) files); make clean-results$shown removes them"
    fi
    if [ "$root" ]; then break; fi
done
kept=
for path in "${root}data/archive.tar.gz" "${root}models/checkpoint.pkl" .venv; do
    if [ -e "$path" ]; then kept="$kept $path"; fi
done
if [ ! -d "${root:-.}" ]; then echo "  nothing to remove: no folder $root"; fi
if [ "$kept" ]; then echo "  kept     $kept; make distclean${root:+ ROOT=${root%/}} removes them"; fi
