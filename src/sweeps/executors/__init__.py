"""Where the trials of a sweep run: this machine, SLURM, Ray."""
