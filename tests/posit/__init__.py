"""Tests of the number layer."""
