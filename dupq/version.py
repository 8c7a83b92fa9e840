"""The version of dupq."""

__version__ = "0.1.0"
