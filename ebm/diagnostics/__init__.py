"""Whether more steps help, where to stop, and whether the draws of a sampler are worth what they seem."""

from ebm.diagnostics.calibration import Calibration
from ebm.diagnostics.chains import Chains, acceptance, describe, effective_sample_size, split_rhat, swaps
from ebm.diagnostics.diagnosing import diagnose
from ebm.diagnostics.quality import accuracy
from ebm.diagnostics.report import Diagnosis, Outlook
from ebm.diagnostics.thresholds import calibrate

__all__ = [
    "Calibration",
    "Chains",
    "Diagnosis",
    "Outlook",
    "acceptance",
    "accuracy",
    "calibrate",
    "describe",
    "diagnose",
    "effective_sample_size",
    "split_rhat",
    "swaps",
]
