"""Numba kernels: integers and arrays only, no objects.  The rest of `posit` chooses, checks and allocates."""
