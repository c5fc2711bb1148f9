"""Health checks of models in training: numbers, and findings in plain words."""
