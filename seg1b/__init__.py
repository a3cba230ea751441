"""seg1b: certified synthetic merchant outlet locations on the real Earth."""

__version__ = "0.1.0"
