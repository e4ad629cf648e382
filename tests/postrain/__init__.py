"""Tests of `postrain`."""
