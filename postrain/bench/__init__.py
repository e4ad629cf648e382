"""Measurements beside peers, in the same run; results are proved equal where a peer computes the same."""
