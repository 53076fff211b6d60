"""Metadata and dependency ranges. `make` installs the tested versions of requirements.lock instead.

The root packages (models, datasets, util, scripts) are run from the checkout and not installed: a top-level
`datasets` in site-packages would collide with Hugging Face's. `pip install -e .` brings the dependencies alone, and
needs neither torch nor a compiler: the kernels of deformable attention are built at their first call.

REFERTRACK_BUILD_OPS=cpu (or cuda, which is both) builds them now, into models/ops/lib, and stops where that fails:

    REFERTRACK_BUILD_OPS=cuda TORCH_CUDA_ARCH_LIST="8.0 9.0" pip install --no-build-isolation -e .
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
BUILDING = {"bdist_wheel", "build", "develop", "editable_wheel", "install"}  # and not when metadata alone are asked for


def build_operator() -> None:
    """Build the kernels that REFERTRACK_BUILD_OPS names."""
    wanted = os.environ.get("REFERTRACK_BUILD_OPS") or "0"
    if wanted not in ("cpu", "cuda", "0"):
        sys.exit(f"REFERTRACK_BUILD_OPS must be cpu, cuda or 0, but is {wanted}")
    if wanted == "0" or not BUILDING & set(sys.argv):
        return
    if importlib.util.find_spec("torch") is None:
        sys.exit(
            "REFERTRACK_BUILD_OPS needs torch where it builds, which pip hides: `pip install torch setuptools`, then "
            "`pip install --no-build-isolation -e .`; or leave it out, and the first call builds"
        )
    kinds = ["cpu"] if wanted == "cpu" else ["cpu", "cuda"]
    command = [sys.executable, "-m", "models.ops", "build", *kinds, "--into", "models/ops/lib"]
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit("the kernels could not be built (see above); without REFERTRACK_BUILD_OPS the installation needs none")


build_operator()

setup(
    name="refertrack",
    version="0.1.0",
    description="Referring video object segmentation: a video and sentences in, one tracked mask per sentence out",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[],
    py_modules=[],
    install_requires=[
        "av>=12",
        "huggingface-hub>=1.3",
        "numpy>=2.0",
        "opencv-python-headless>=4.9",
        "pillow>=10",
        "PyYAML>=6",
        "safetensors>=0.5",
        "tokenizers>=0.22",
        "torch>=2.11",
        "torchvision>=0.26",
        "tqdm>=4.66",
        "transformers>=5",
    ],
    extras_require={
        # the plot that `eval --out` draws
        "plot": ["matplotlib>=3.8"],
        "log": ["tensorboard>=2.16"],
        "bench": ["fvcore>=0.1.5.post20221221"],
        # masks of A2D-Sentences (HDF5) and JHMDB-Sentences (MATLAB)
        "data": ["h5py>=3.10", "scipy>=1.11"],
        # Grounding DINO is part of transformers
        "teacher": ["sam2>=1.1"],
        # the original code of Grounding DINO, and the service of its successors: for those who ask for them
        "groundingdino": ["groundingdino-py>=0.4"],
        "cloud": ["dds-cloudapi-sdk>=0.5.3"],
        "dev": [
            "fvcore>=0.1.5.post20221221",
            "h5py>=3.10",
            "matplotlib>=3.8",
            "mypy>=1.10",
            "pycocotools>=2.0.8",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "ruff>=0.9",
            "scipy>=1.11",
            "tensorboard>=2.16",
            "types-PyYAML>=6",
        ],
    },
)
