"""The command line: from what a user types to a composed, checked config, and from an error to one line."""
