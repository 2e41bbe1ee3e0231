"""From configs and checkpoints to objects: with the command line, the only code that uses Hydra."""
