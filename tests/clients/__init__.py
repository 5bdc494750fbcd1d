"""Programs that count tokens, each as its users run it, against a fake of the providers."""
