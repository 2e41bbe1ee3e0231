"""Experiment trackers that need more than Lightning's own logger."""
