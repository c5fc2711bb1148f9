"""Runs on the Hugging Face hub: `push` writes one there, with a model card. `ancestral.app.remote` reads them."""

from ancestral.app.hub.upload import push

__all__ = ["push"]
