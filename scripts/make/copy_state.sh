#!/bin/sh
# Copies ROOT/.make for make -n and -q, which must not write to ROOT, and prints the copy's path. A background process
# removes the copy when make ends.
# Usage: copy_state.sh STATE [yes]. With yes, make has restarted after it updated the copy, and keeps it.
set -fu
umask 077
copy=${TMPDIR:-/tmp}
copy=${copy%/}/make-state-$PPID
if [ ! "${2-}" ]; then
    rm -rf "$copy"
    mkdir "$copy" 2> /dev/null || exit # the folder is new, so it is not another user's
    if [ -d "$1" ]; then cp -Rp "$1/." "$copy"; fi
    (
        while kill -0 "$PPID"; do sleep 0.2; done
        rm -rf "$copy"
    ) > /dev/null 2>&1 &
fi
echo "$copy"
