"""Cumulet's SDK: small edge clouds made of phone-class boards."""

__version__ = "0.1.0"
