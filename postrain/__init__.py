"""Train small neural networks in posit arithmetic, every sum exact and rounded once.

Importing this package loads neither torch nor Numba; its modules do that when they are used.

>>> import postrain
>>> postrain.__version__
'0.1.0.dev0'
"""

__version__ = "0.1.0.dev0"
