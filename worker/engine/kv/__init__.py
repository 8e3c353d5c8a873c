"""Keys and values of all sessions: slots (`slots`), arrays (`pool`), the budget (`manager`), `quantization`."""
