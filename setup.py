"""Metadata and dependency ranges. `make` installs the tested versions of requirements.lock instead.

The root packages (models, datasets, util, scripts) are run from the checkout and not installed: a top-level
`datasets` in site-packages would collide with Hugging Face's. `pip install -e .` brings the dependencies alone.
"""

from setuptools import setup

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
        "numpy>=1.26",
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
        "log": ["tensorboard>=2.16"],
        "bench": ["fvcore>=0.1.5.post20221221"],
        # Grounding DINO is part of transformers
        "teacher": ["sam2>=1.1"],
        "dev": [
            "fvcore>=0.1.5.post20221221",
            "mypy>=1.10",
            "pycocotools>=2.0.8",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "ruff>=0.9",
            "tensorboard>=2.16",
            "types-PyYAML>=6",
        ],
    },
)
