"""Train with a loss of your own: the recipe's loss and a penalty on codewords that are alike.

python examples/own_loss.py photos/ --weight 0.1
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F

from spq import SPQ


def similarity(codebooks: torch.Tensor) -> torch.Tensor:
    """Mean cosine of two different codewords of a codebook; codebooks are (M, K, d)."""
    codewords = F.normalize(codebooks, dim=2)
    K = codewords.shape[1]
    return ((codewords @ codewords.mT).sum((1, 2)) - K).mean() / (K * (K - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--weight", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--recipe", default="paper")
    options = parser.parse_args()

    def objective(outputs, network, own_loss):
        return own_loss(outputs) + options.weight * similarity(network.quantizer.codebooks)

    model = SPQ.train(options.photos, recipe=options.recipe, epochs=options.epochs, objective=objective)
    print(f"similarity of codewords: {similarity(torch.from_numpy(model.codebooks)):.4f}")


if __name__ == "__main__":
    main()
