"""IDX, the file format of MNIST and Fashion-MNIST.

Two zero bytes, a byte for the type of the elements, a byte for the number of dimensions, each dimension as a
big-endian 32-bit integer, then the elements, last dimension fastest. Files may be compressed with gzip.

Source: http://yann.lecun.com/exdb/mnist, "the IDX file format".
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from postrain.errors import DataError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, ndim: int) -> npt.NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes with `ndim` dimensions.

    Raises:
        DataError: The file cannot be read, is cut short, or is not such a file.
    """
    data = _read(path)
    wanted = bytes((0, 0, _UNSIGNED_BYTE, ndim))
    if data[:4] != wanted:
        raise DataError(
            f"{path} is not an IDX file of bytes with {ndim} dimensions: it begins with "
            f"{data[:4].hex() or 'nothing'}, wanted {wanted.hex()}; fetch the file again"
        )
    start = 4 + 4 * ndim
    if len(data) < start:
        raise DataError(f"{path} is cut short inside its header of {start} bytes; fetch the file again")
    shape = struct.unpack(f">{ndim}I", data[4:start])
    if len(data) - start != math.prod(shape):
        raise DataError(
            f"{path} announces {' × '.join(map(str, shape))} = {math.prod(shape)} bytes but holds "
            f"{len(data) - start}; fetch the file again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _read(path: Path) -> bytes:
    """All bytes of `path`, decompressed if its name ends in ``.gz``."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is damaged or cut short ({error}); fetch the file again") from error
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; check that it exists and may be read"
        ) from error
