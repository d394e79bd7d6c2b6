"""Examines an installation from outside the service: what works, and what will hurt."""
