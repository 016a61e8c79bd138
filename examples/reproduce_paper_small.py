"""The paper in miniature: its loss, views and optimizer on a small network and the pictures that come with spq.

python examples/reproduce_paper_small.py --epochs 20
"""

from __future__ import annotations

import argparse
from dataclasses import replace

from spq import SPQ, evaluate, load_recipe
from spq.data.protocols import custom_protocol


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=32, help="channels of the first stage; the paper has 64")
    parser.add_argument("--queries", default="sample:test", help="a labelled collection")
    parser.add_argument("--gallery", default="sample:train", help="a labelled collection, also for training")
    options = parser.parse_args()

    paper = load_recipe("paper")
    small = replace(paper.backbone, blocks=(1, 1, 1), width=options.width, stem_stride=2)
    recipe = replace(paper, backbone=small, input=replace(paper.input, size=28))
    protocol = custom_protocol(options.gallery, options.queries, map_at=100)
    model = SPQ.train(protocol.training, recipe=recipe, bits=32, epochs=options.epochs)
    print(evaluate(model, protocol, baselines=True).table())


if __name__ == "__main__":
    main()
