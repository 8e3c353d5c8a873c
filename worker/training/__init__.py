"""Training: parallel text in, a model directory out that the engine serves. Train what you serve.

The objective runs the serving engine's own model with the mask that streaming gives it; words are tokenised by the
serving vocabulary. It knows no Redis. Axis letters are those of `worker.engine`; Q counts the tokens to predict.

`torch_*` trains by PyTorch alone, on machines that may lack mlx.
"""

from worker import engine as engine  # first of all: it loads a fast BLAS, which must be there before mlx is imported
