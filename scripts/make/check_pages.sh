#!/bin/sh
# Checks pages such as results/cpu/bs16/accuracy.txt, which make prints without running a command: they have the digests
# that their records, accuracy.json, name, and the records are of the chip and batch size in the path, and of the outputs
# there. Exits 1 at the first one of which that is not true.
# Usage: set -- PAGE…; . scripts/make/check_pages.sh (in the shell of the recipe, which saves the start of another)
set -u

# Exits 1 because of the file $1 of the page.
fail() {
    echo "check_pages.sh: $1: $2; type: rm -f $page, then the same make command" >&2
    exit 1
}

# Exits 1 if the file $1 is not a regular one, such as a pipe, which would never end.
check_file() {
    if [ ! -f "$1" ]; then fail "$1" "differs from $record"; fi
}

for page in "$@"; do
    record=${page%.txt}.json folder=${page%/*}
    outputs=''
    predictions=''
    chip=${folder%/*} size=${folder##*/bs}
    manifest=$folder/outputs/manifest.json
    if [ ! -f "$manifest" ]; then manifest=''; fi
    # The lines of the record that are checked, and the digest that the manifest states. One sed for both files: a shell
    # reads a file byte by byte.
    facts=" $(sed -n '/^ "sha256": /p; /^ "predictions_sha256": /p; /^  "chip": /p; /^  "batch_size": /p; /^   "outputs": /p
        s/^ "digest": \("[^"]*"\).*/stated \1/p' "$record" ${manifest:+"$manifest"}) "
    case $facts in
        *"stated "*)
            outputs=${facts##*stated }
            outputs=${outputs% }
            ;;
    esac
    case $facts in
        *predictions_sha256*) predictions=$folder/predictions.csv ;; # earlier versions did not record it
    esac
    check_file "$page"
    if [ "$predictions" ]; then check_file "$predictions"; fi
    # shellcheck disable=SC2046  # words: digest, name, digest, name
    set -- $(sha256sum "$page" ${predictions:+"$predictions"})
    case $facts in
        *" \"sha256\": \"$1\""*) ;;
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
    if [ "$predictions" ]; then
        case $facts in
            *"\"predictions_sha256\": \"$3\""*) ;;
            *) fail "$predictions" "differs from $record" ;;
        esac
    fi
done
