"""What a run did and found, as one HTML page that needs nothing else."""

from stjax.report.page import write

__all__ = ["write"]
