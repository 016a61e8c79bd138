#!/bin/sh
# The whole results table on test queries, then README.md; stopped at any time, the same command goes on where it was.
#     benchmarks/table.sh CHECKOUT-OF-THE-AUTHORS [RECIPE]
# MINUTES (30) a run, SEEDS (2), WORK (runs/table) for the trainings. With the defaults some 15 hours on an otherwise idle machine.
set -eu
checkout=$1 recipe=${2:-spq}
minutes=${MINUTES:-30} seeds=${SEEDS:-2} work=${WORK:-runs/table}
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
spq() { "$python" -m spq "$@"; }
quality() { spq bench quality "$@" --official "$checkout" --test --json benchmarks/results/quality.json --work "$work"; }

# side by side in the same minutes, then the other lengths, then one thing changed at a time
quality authors paper fast "$recipe" --minutes "$minutes" --seeds "$seeds" --plots docs/images
quality "$recipe" --bits 16,64 --minutes "$minutes" --seeds "$seeds"
quality "$recipe" "$recipe+simclr" "$recipe+hard" "$recipe+vq" "$recipe+8bits" "$recipe+diversity" \
    --minutes "$minutes" --seeds "$seeds" --plots "$work/ablations"
spq bench report

# both metrics on both models; loss curves; speed
spq bench official "$checkout" --out "$(echo "$work"/authors-32-0-*)" --minutes "$minutes" --test \
    --ours "$(echo "$work/$recipe"-32-0-*)" --json benchmarks/results/official.json
spq bench agreement "$checkout" --steps 200 --batch-size 16 --json benchmarks/results/agreement.json
spq bench throughput "$checkout" --rounds 3 --json benchmarks/results/throughput.json
