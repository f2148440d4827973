"""Looking at what settling did: are the draws of a sampler worth what they seem?"""

from ebm.diagnostics.chains import Chains, acceptance, describe, effective_sample_size, split_rhat, swaps

__all__ = ["Chains", "acceptance", "describe", "effective_sample_size", "split_rhat", "swaps"]
