"""Text in and out of a model: its tokenizer, its prompts, and its card (`decalage.json`)."""
