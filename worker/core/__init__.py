"""The pure core: it decides what to read, what to write and when, and performs nothing.

No mlx, no Redis, no clock, no randomness, no logging: time is an argument, everything else is a value. `session.step`
takes the events of the source stream, `scheduler.plan` packs what all sessions want into rows of token ids, and
`session.update` turns the sampled tokens into words and events. `sessions` holds all sessions of one engine.
"""
