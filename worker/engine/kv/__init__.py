"""Keys and values of all sessions: slots (`slots`), the arrays (`pool`), who has room (`manager`), how many bits."""
