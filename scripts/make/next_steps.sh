#!/bin/sh
# Prints the commands to type after make demo. Usage: next_steps.sh ROOT CHIP
step() { printf '  make %-28s %s\n' "$1" "$2"; }
echo
echo 'Next, with the same sample:'
step "verify ROOT=$1 CHIP=$2" 'compare Top-1 with the limit in params.yaml'
step "perf ROOT=$1 CHIP=$2" 'measure throughput and latency'
step "report ROOT=$1" "write $1/results/report.html"
echo 'With your own files:'
echo '  make accuracy ARCHIVE=cifar-10-python.tar.gz WEIGHTS=checkpoint.pkl'
