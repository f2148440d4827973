"""Whether more steps help, and where to stop: reports on how a model settles."""

from ebm.diagnostics.calibration import Calibration
from ebm.diagnostics.diagnosing import diagnose
from ebm.diagnostics.quality import accuracy
from ebm.diagnostics.report import Diagnosis, Outlook
from ebm.diagnostics.thresholds import calibrate

__all__ = ["Calibration", "Diagnosis", "Outlook", "accuracy", "calibrate", "diagnose"]
