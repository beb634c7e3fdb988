#!/bin/sh
# Prints a note for each of CANN's tools that was given to make and not started, because what it makes is up to date.
# Usage: unused_tools.sh BEGUN NAMES MODEL [RESULT]. BEGUN is the start of make (s since 1970), NAMES are variables of make.
# MODEL is the record of the compiled model, RESULT the folder or the record that the model computed; their times are
# those when they were written. make exports the variables.
set -u

# True if the file $1 was written before make began.
is_older() { [ "$(stat -c %Y -- "$1" 2> /dev/null || echo "$begun")" -lt "$begun" ]; }

begun=$1 names=$2 model=$3 result=${4-}
for name in $names; do
    case $name in
        ATC) files=$model ;;
        AIS_BENCH) files=$result ;;
        *) files="$model $result" ;;
    esac
    for file in $files; do is_older "$file" || continue 2; done
    value=
    eval "value=\$$name"
    if [ "$files" ]; then
        printf '%s' "make: $name=$value has no effect: $file is up to date" | LC_ALL=C tr '\001-\037\177' '?' >&2
        echo >&2
    fi
done
