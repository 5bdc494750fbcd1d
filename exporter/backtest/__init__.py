"""What the forecast would have said of usage that is already past, and how right it was."""
