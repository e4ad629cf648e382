"""Tests of `posit.torch`."""
