"""Tests of ``ga``."""
