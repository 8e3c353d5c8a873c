"""Speculative decoding: a draft model proposes, one forward pass verifies, and `autotune` measures where that pays."""
