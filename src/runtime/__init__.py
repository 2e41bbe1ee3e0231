"""The process a command runs in: its folder, its signals, its surroundings."""
