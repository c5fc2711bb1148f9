"""Train, sample, score and compare the five classical families of deep generative models on your own data."""

__version__ = "0.1.0"
