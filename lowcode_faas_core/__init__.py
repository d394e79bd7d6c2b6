"""lowcode-faas: a lightweight, self-hosted function platform. The core; backends are plugins."""

__version__ = "0.1.0"
