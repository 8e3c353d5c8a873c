"""Quality and latency of a model on a test set under several policies, with the field's standard measures.

Runs the service's session machine and engine without Redis, many sentences to a pass.
"""
