"""What each command does once its config is composed: one file a command, named as its launcher in ``src``."""
