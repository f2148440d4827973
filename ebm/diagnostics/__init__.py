"""Whether more steps help, and where to stop: reports on how a model settles."""

from ebm.diagnostics.diagnosing import diagnose
from ebm.diagnostics.quality import accuracy
from ebm.diagnostics.report import Diagnosis, Outlook

__all__ = ["Diagnosis", "Outlook", "accuracy", "diagnose"]
