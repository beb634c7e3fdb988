#!/bin/sh
# Checks pages such as results/cpu/bs16/accuracy.txt, which make prints without running a command: they have the digests
# that their records, accuracy.json, name, and the records are of the chip and batch size in the path, and of the outputs
# there. Exits 1 at the first one of which that is not true.
# Usage: check_pages.sh PAGE…
set -u

# Exits 1 because of the file $1 of the page.
fail() {
    echo "check_pages.sh: $1: $2; type: rm -f $page, then the same make command" >&2
    exit 1
}

# Sets `sum` to the sha256 of a regular file: a pipe would never end.
digest() {
    sum=
    if [ -f "$1" ]; then
        sum=$(sha256sum < "$1")
        sum=${sum%% *}
    fi
}

# Sets `outputs` to the digest that the manifest $1 states, in quotation marks; empty without a manifest.
read_outputs() {
    outputs=
    if [ ! -f "$1" ]; then return; fi
    while IFS= read -r line; do
        case $line in ' "digest": '*) outputs=${line#' "digest": '} ;; esac
    done < "$1"
    outputs=${outputs%,}
}

for page in "$@"; do
    record=${page%.txt}.json folder=${page%/*}
    chip=${folder%/*} size=${folder##*/bs}
    facts=" $(sed -n '/^ "sha256": /p; /^ "predictions_sha256": /p; /^  "chip": /p; /^  "batch_size": /p;
        /^   "outputs": /p' "$record") "
    read_outputs "$folder/outputs/manifest.json"
    digest "$page"
    case $facts in
        *" \"sha256\": \"$sum\""*) ;;
        *) fail "$page" "differs from $record" ;;
    esac
    case $facts in
        *" \"chip\": \"${chip##*/}\""*) ;;
        *) fail "$record" "is of another chip: it was copied from another place" ;;
    esac
    case $facts in
        *" \"batch_size\": $size"[!0-9]*) ;;
        *) fail "$record" "is of another batch size: it was copied from another place" ;;
    esac
    case $facts in
        *"\"outputs\": $outputs"*) ;;
        *) fail "$record" "is of other outputs than those in $folder/outputs" ;;
    esac
    case $facts in
        *predictions_sha256*) # earlier versions did not record it
            digest "$folder/predictions.csv"
            case $facts in
                *"\"predictions_sha256\": \"$sum\""*) ;;
                *) fail "$folder/predictions.csv" "differs from $record" ;;
            esac
            ;;
    esac
done
