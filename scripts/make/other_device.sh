#!/bin/sh
# Prints a note if the file FILE, outputs or a measurement, was computed on other devices than DEVICE.
# Usage: other_device.sh DEVICE FILE. FILE is a record of this project, with the devices as "0 (NAME), 1 (NAME)".
set -u

# Prints the numbers of a list of devices, one per line, without leading zeros.
numbers() { printf '%s\n' "$1" | sed 's/ ([^)]*)//g' | tr -s ', ' '\n' | sed 's/^0*\([0-9]\)/\1/' | sort -n; }

# The entry of "provenance". In a measurement, deeper ones are of the inference.
used=$(sed -n 's/^  "device": "\(.*\)",*$/\1/p' "$2")
if [ ! "$used" ]; then exit 0; fi
given=$(numbers "$1")
# With few batches only the first of the devices are needed.
case $given/ in
    "$(numbers "$used")"[!0-9]*) ;;
    *) echo "make: DEVICE=$1 has no effect: $2 is up to date and was computed on device $used" >&2 ;;
esac
