"""How weights learn from settled latents: every rule is a loss."""

from ebm.losses.progressive import Progressive

__all__ = ["Progressive"]
