"""One file per format: bytes and headers in, a `Reading` out."""
