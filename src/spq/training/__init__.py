"""Views, losses, optimizers, the loop and the stages after it. May import `model`."""
