"""The driver of the authors' code, on a checkout in miniature with the same entrances.

With SPQ_OFFICIAL set to a real checkout, that one is driven as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import official
from _authors import Authors, BudgetSpent, Training, as_model, commit_of, our_state
from _scoring import Data, load_data, map_of, points
from spq.config import load_recipe
from spq.data.image_set import subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.errors import ConfigError
from spq.model.network import Network


def test_a_version_with_changed_code_is_marked_and_one_with_new_results_is_not(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        person = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", "-C", str(tmp_path), *person, *words], check=True, capture_output=True)

    assert commit_of(tmp_path) == "unknown"
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    for name in ("code.py", "README.md", "benchmarks/results/quality.json"):
        (tmp_path / name).write_text("1")
    git("init"), git("add", "."), git("commit", "-m", "one")
    clean = commit_of(tmp_path)
    (tmp_path / "benchmarks" / "results" / "quality.json").write_text("2")
    (tmp_path / "README.md").write_text("2")
    assert commit_of(tmp_path) == clean
    assert "+" not in clean
    (tmp_path / "code.py").write_text("2")
    assert commit_of(tmp_path) == clean + "+"


MINIATURE = """
import argparse
import torch as T
import torch.nn as nn
import torchvision
import torchvision.transforms as transforms
from torch.optim.lr_scheduler import CosineAnnealingLR
from utils import noisy

def get_args_parser():
    parser = argparse.ArgumentParser(add_help=False)
    for name, value in {"batch_size": 256, "num_workers": 12, "input_size": 32, "N_books": 8, "eval_epoch": 100}.items():
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--gpu_id", default="0")
    return parser

class CQCLoss(nn.Module):
    def forward(self, x, z):
        return (x - z).square().mean()

def train_SPQ(args):
    device = T.device("cuda")
    dataset = torchvision.datasets.CIFAR10(root="", train=True, download=False, transform=transforms.ToTensor())
    loader = T.utils.data.DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True, num_workers=0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * args.input_size**2, 8))
    net.cuda(device)
    criterion = CQCLoss()
    optimizer = T.optim.Adam(net.parameters(), lr=3e-4)
    scheduler = CosineAnnealingLR(optimizer, T_max=len(loader), eta_min=0, last_epoch=-1)
    for epoch in range(5000):
        for i, data in enumerate(loader, 0):
            x = data[0].to(device)
            optimizer.zero_grad()
            loss = criterion(net(noisy(x)), net(noisy(x)))
            loss.backward()
            optimizer.step()
        if epoch >= 1:
            scheduler.step()
"""


@pytest.fixture
def authors(tmp_path: Path) -> Authors:
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "main_SPQ.py").write_text(MINIATURE, "utf-8")
    (folder / "utils.py").write_text(
        "import torch\n\ndef noisy(x):\n    return x + 0.1 * torch.randn_like(x)\n", "utf-8"
    )
    (folder / "Retrieval.py").write_text("", "utf-8")
    return Authors(folder)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)


def steps(count: int) -> object:
    def before_step(training: Training) -> None:
        if training.step >= count:
            raise BudgetSpent

    return before_step


def test_a_stopped_training_continues_exactly(authors: Authors, pixels: np.ndarray) -> None:
    options = {"bits": 32, "batch_size": 8, "seed": 3}
    losses: list[float] = []
    whole = authors.train(pixels, before_step=steps(23), on_loss=lambda loss: losses.append(loss.item()), **options)
    for stop in (7, 10):  # within an epoch of five steps, and at its end
        part = authors.train(pixels, before_step=steps(stop), **options)
        assert (whole.step, part.step, len(losses)) == (23, stop, 23)
        rest = authors.train(pixels, before_step=steps(23), saved=part.state(), **options)
        assert rest.parts["scheduler"].get_last_lr() == whole.parts["scheduler"].get_last_lr() != [3e-4]
        for name, tensor in whole.network.state_dict().items():
            assert torch.equal(tensor, rest.network.state_dict()[name])


def test_the_process_is_restored_afterwards(authors: Authors, pixels: np.ndarray) -> None:
    before = dict(os.environ), torch.random.get_rng_state(), list(sys.path)
    authors.train(pixels, bits=32, batch_size=8, before_step=steps(2))
    assert (dict(os.environ), list(sys.path)) == (before[0], before[2])
    assert torch.equal(before[1], torch.random.get_rng_state())
    assert "main_SPQ" not in sys.modules
    assert authors.main.T is torch
    assert authors.main.nn is torch.nn
    assert not hasattr(authors.main, "range")


def test_a_budget_ends_training_and_points_are_kept(authors: Authors, pixels: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "out"
    last, network = official.train_within(authors, pixels, out, bits=32, epochs=2, every=0.0, batch_size=8)
    assert last["step"] == 10
    assert all(torch.equal(last["network"][name], t) for name, t in network.state_dict().items())
    assert [point["step"] for point in points(out)] == list(range(1, 11))
    again, _ = official.train_within(authors, pixels, out, bits=32, epochs=2, every=0.0, batch_size=8)
    assert (again["step"], again["seconds"]) == (10, last["seconds"])
    timed, _ = official.train_within(authors, pixels, tmp_path / "timed", bits=32, minutes=0.005, batch_size=8)
    assert 0.3 <= timed["seconds"] < 5


def test_a_folder_without_the_authors_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no main_SPQ\.py; give a checkout"):
        Authors(tmp_path)


REAL = os.environ.get("SPQ_OFFICIAL", "")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="SPQ_OFFICIAL names no checkout of the authors' repository")
@pytest.mark.filterwarnings("ignore")
def test_the_real_checkout_trains_and_both_scorers_agree_on_its_model() -> None:
    real, images = Authors(Path(REAL)), open_images("sample:train")
    gallery = subset(images, range(100))
    data: Data = load_data(Protocol("a few", subset(images, range(100, 130)), gallery, gallery, 50), 32)
    training = real.train(data.training, bits=32, batch_size=8, before_step=steps(2))
    recipe = load_recipe("paper")
    assert our_state(training.network.state_dict(), recipe).keys() == Network(recipe).state_dict().keys()
    model = as_model(training.network.state_dict(), 32)
    image = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = training.network.eval()(image)
        for mine, their in zip(model.network(image), theirs, strict=True):
            torch.testing.assert_close(mine, their, atol=1e-5, rtol=1e-4)
    for network in (None, training.network):
        assert real.score(model, data, network)[1] == pytest.approx(map_of(model, data, "l2"), abs=1e-6)
