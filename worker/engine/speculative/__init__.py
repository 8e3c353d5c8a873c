"""Speculative decoding: a draft model proposes, one forward pass verifies, and `autotune` finds where that pays."""
