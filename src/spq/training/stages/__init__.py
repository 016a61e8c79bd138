"""The stages of a training, each with its own loop. May import the rest of `training`."""
