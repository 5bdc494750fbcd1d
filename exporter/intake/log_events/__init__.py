"""Events that tools log of calls of models and of refusals: one file a tool, a line in `tools`."""
