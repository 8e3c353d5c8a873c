"""How good and how late: a model over a test set under several policies, with everybody's own measures.

Drives the service's session machine over the service's engine, many sentences to a tick, and never meets Redis.
"""
