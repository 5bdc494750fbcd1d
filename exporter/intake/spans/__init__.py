"""Conventions by which spans tell of calls of models: one file each, a line in `conventions`."""
