#!/bin/sh
# Checks pages such as results/cpu/bs16/accuracy.txt, which make prints without running a command: they have the digests
# that their records, accuracy.json, name, and the records are of the chip and batch size in the path. Exits 1 at the
# first one of which that is not true.
# Usage: check_pages.sh PAGE…
set -u
page=

fail() {
    echo "check_pages.sh: $1: $2; type: rm -f $page, then the same make command" >&2
    exit 1
}

# The sha256 of a regular file: a pipe would never end.
digest() {
    sum=
    if [ -f "$1" ]; then sum=$(sha256sum < "$1"); fi
    echo "${sum%% *}"
}

for page in "$@"; do
    record=${page%.txt}.json folder=${page%/*}
    if ! grep -q "^ \"sha256\": \"$(digest "$page")\"" "$record"; then fail "$page" "differs from $record"; fi
    chip=${folder%/*} size=${folder##*/bs}
    place=$(grep -c -e "^  \"chip\": \"${chip##*/}\"" -e "^  \"batch_size\": $size\b" "$record")
    if [ "$place" != 2 ]; then fail "$record" "is of another chip or batch size: it was copied from another place"; fi
    # Earlier versions did not record the digest of predictions.csv.
    table=$folder/predictions.csv
    stated=$(sed -n 's/^ "predictions_sha256": "\([0-9a-f]*\)",*$/\1/p' "$record")
    if [ "$stated" ] && [ "$(digest "$table")" != "$stated" ]; then fail "$table" "differs from $record"; fi
done
