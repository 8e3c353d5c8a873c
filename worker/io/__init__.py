"""Redis, metrics, health and logs: everything that touches the world outside, except the model. Knows no mlx."""
