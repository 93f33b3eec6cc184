"""Files of features that are not read, with the line of Python that saves what they hold as .npy."""

from __future__ import annotations

import shlex
from pathlib import Path

TORCH = 'import numpy, torch; x = torch.load("{file}", weights_only=True)'
PICKLE = 'import numpy, pickle; x = pickle.load(open("{file}", "rb"))'
HDF5 = 'import numpy, h5py; x = h5py.File("{file}")["NAME"]'
OPENED = {
    **dict.fromkeys((".pt", ".pth", ".bin"), TORCH),
    **dict.fromkeys((".pkl", ".pickle"), PICKLE),
    **dict.fromkeys((".h5", ".hdf5"), HDF5),
    ".safetensors": 'import numpy; from safetensors.numpy import load_file; x = load_file("{file}")["NAME"]',
    ".parquet": 'import numpy, pandas; x = numpy.stack(pandas.read_parquet("{file}")["NAME"])',
    ".mat": 'import numpy, scipy.io; x = scipy.io.loadmat("{file}")["NAME"]',
}
NPZ = ".npz"  # a zip of .npy files


def is_foreign(path: Path) -> bool:
    return path.suffix.lower() in (*OPENED, NPZ)


def how_to_save(path: Path, what: str = "the array of all images") -> str:
    """Why such a file is not read, and the command that makes an .npy of it."""
    if path.suffix.lower() == NPZ:
        unpack = shlex.join(["python", "-m", "zipfile", "-e", path.name, path.stem])
        return f"an .npz of many images is unpacked first: {unpack}; then convert the folder {path.stem}"
    load = OPENED[path.suffix.lower()].format(file=path.name)
    save = shlex.quote(f'{load}; numpy.save("{path.stem}.npy", x)')
    why = "is a pickle, which is never loaded; where you trust it," if "pickle" in load else "is not read;"
    return f"a {path.suffix} file {why} save {what} as .npy: python -c {save}"
