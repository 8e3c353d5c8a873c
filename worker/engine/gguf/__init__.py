"""Models in GGUF files, as llama.cpp and its users have them, read into the model classes of mlx-lm.

reader.py          the file: metadata and tensors, in one part or several
architectures.py   metadata to the config of mlx-lm's model classes
weights.py         tensors to their parameters
tokenizer.py       metadata to a tokenizer with its chat template
"""
