"""Train with a loss of your own: the recipe's loss and a penalty on codewords that are alike.

python examples/own_loss.py photos/ --weight 0.1
"""

import argparse

import torch.nn.functional as F

from spq import SPQ, CrossQuantized


class Diverse(CrossQuantized):
    weight = 0.1

    def prepare(self, network, count):
        super().prepare(network, count)
        self.codebooks = network.quantizer.codebooks  # (M, K, d)

    def forward(self, x, z, rows):
        codewords = F.normalize(self.codebooks, dim=2)
        self.similarity = (codewords @ codewords.mT).mean()
        return super().forward(x, z, rows) + self.weight * self.similarity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos")
    parser.add_argument("--weight", type=float, default=Diverse.weight)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--recipe", default="paper")
    options, loss = parser.parse_args(), Diverse()
    loss.weight = options.weight
    SPQ.train(options.photos, recipe=options.recipe, epochs=options.epochs, loss=loss)
    print(f"similarity of codewords: {loss.similarity:.4f}")


if __name__ == "__main__":
    main()
