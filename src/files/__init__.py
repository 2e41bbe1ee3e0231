"""Files on disk: whole writes, locks and hashes, listings of images, and reading what a stranger may have written."""
