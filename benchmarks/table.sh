#!/bin/sh
# The whole results table on test queries, then README.md; stopped at any time, the same command goes on where it was.
#     benchmarks/table.sh CHECKOUT-OF-THE-AUTHORS [RECIPE]
# MINUTES (30) a run, SEEDS (2), WORK (runs/table) for the trainings. With the defaults some 12 hours on an otherwise idle machine.
set -eu
checkout=$1 recipe=${2:-spq}
minutes=${MINUTES:-30} seeds=${SEEDS:-2} work=${WORK:-runs/table}
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
spq() { "$python" -m spq "$@"; }
quality() { spq bench quality "$@" --official "$checkout" --test --json "$work/quality.json" --work "$work"; }
one() { [ $# = 1 ] && [ -d "$1" ] || { echo "table.sh: expected one folder, found: $*" >&2; exit 1; }; echo "$1"; }

# side by side in the same minutes; one training for three lengths beside one for each; one thing changed at a time
small="paper:backbone.blocks=[1,1,1],backbone.width=64,backbone.stem_stride=2"
quality authors fast "$recipe" --minutes "$minutes" --seeds "$seeds"
quality "$small" --epochs 15
quality "$recipe" --bits 64 --minutes $((minutes * 3 / 2)) --every 10
quality "$recipe:quantizer.prefixes=[]" --bits 16,64 --minutes $((minutes * 3 / 2)) --every 10
quality fast fast+simclr fast+hard fast+vq fast+8bits fast+diversity --epochs 3 --every 1000 --seeds "$seeds"
spq bench report --add "$work/quality.json"

# both metrics on both models; loss curves; speed
theirs=$(one "$work"/authors-32-0-*)
ours=$(one "$work/$recipe"-32-0-*)
spq bench official "$checkout" --out "$theirs" --minutes "$minutes" --test --ours "$ours" --json benchmarks/results/official.json
spq bench agreement "$checkout" --steps 200 --batch-size 16 --json benchmarks/results/agreement.json
spq bench throughput "$checkout" --rounds 3 --json benchmarks/results/throughput.json
