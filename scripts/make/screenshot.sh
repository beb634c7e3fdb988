#!/bin/sh
# Writes a picture of the top of a report page: sh scripts/make/screenshot.sh ROOT [OUT] [HEIGHT]
# OUT: docs/images/report.png; HEIGHT: pixels, 1000; the width is 1200. CHROMIUM names the browser.
set -eu

fail() {
  echo "screenshot.sh: $1; $2" >&2
  exit 1
}

case $# in 1 | 2 | 3) ;; *) echo "usage: screenshot.sh ROOT [OUT] [HEIGHT]" >&2; exit 2 ;; esac
page=$1/results/report.html
out=${2:-docs/images/report.png}
[ -f "$page" ] || fail "$page: no such file" "run make report ROOT=$1"
browser=${CHROMIUM:-$(command -v chromium || command -v google-chrome)} ||
  fail "chromium: program not found" "install it, or name the browser by CHROMIUM="
mkdir -p "$(dirname "$out")"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$browser" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$folder/profile" \
  --window-size="1200,${3:-1000}" --screenshot="$folder/page.png" "file://$(realpath "$page")" > "$folder/log" 2>&1 || true
[ -s "$folder/page.png" ] || fail "$browser: no picture ($(tail -n 1 "$folder/log"))" "open $page in a browser"
size=$(wc -c < "$folder/page.png")
[ "$size" -le 204800 ] || fail "the picture has $size bytes, more than 204800" "use a smaller HEIGHT"
cp "$folder/page.png" "$out"
echo "$out: $size bytes"
