#!/bin/sh
# Checks that pages such as accuracy.txt have the digest that their records, accuracy.json, name: make prints them without
# running a command. Exits 1 at the first one that was changed.
# Usage: check_pages.sh PAGE…
set -u
for page in "$@"; do
    sum=$(sha256sum < "$page") || exit
    if ! grep -q "^ \"sha256\": \"${sum%% *}\"" "${page%.txt}.json"; then
        echo "check_pages.sh: $page: differs from ${page%.txt}.json; type: rm $page, then the same make command" >&2
        exit 1
    fi
    # Earlier versions did not record the digest of predictions.csv.
    table=${page%/*}/predictions.csv
    stated=$(sed -n 's/^ "predictions_sha256": "\([0-9a-f]*\)",*$/\1/p' "${page%.txt}.json")
    if [ "$stated" ] && [ "$(sha256sum < "$table")" != "$stated  -" ]; then
        echo "check_pages.sh: $table: differs from ${page%.txt}.json; type: rm $page, then the same make command" >&2
        exit 1
    fi
done
