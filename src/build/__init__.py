"""From configs and checkpoints to objects: the only library code, besides the command line's, that knows Hydra."""
