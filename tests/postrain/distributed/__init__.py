"""Tests of `postrain.distributed`."""
