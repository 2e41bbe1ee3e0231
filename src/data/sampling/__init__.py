"""What an epoch of training holds."""
