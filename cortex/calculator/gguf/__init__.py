"""Readers of GGUF: from the bytes of a header to a shape."""
