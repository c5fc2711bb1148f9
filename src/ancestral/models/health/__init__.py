"""Health checks: how a model knows in training that its kind fails, in numbers and in plain words."""
