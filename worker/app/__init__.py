"""The composition root: core, engine and io wired into one worker."""
