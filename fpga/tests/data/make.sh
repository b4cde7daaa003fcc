#!/bin/sh
# Makes the bitstreams that lie beside, of blinky.v, with yosys, nextpnr-ice40 and icepack.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for target in up5k:sg48 hx1k:tq144; do
    part=${target%%:*}
    yosys -q -p "read_verilog blinky.v; synth_ice40 -top blinky -json $work/$part.json"
    nextpnr-ice40 -q --seed 1 "--$part" --package "${target##*:}" --pcf-allow-unconstrained \
        --json "$work/$part.json" --asc "$work/$part.asc"
    icepack "$work/$part.asc" "blinky-$part.bin"
done
