"""How weights learn from settled latents: every rule is a loss."""

from ebm.losses.progressive import Every, Last, Over, Progressive

__all__ = ["Every", "Last", "Over", "Progressive"]
