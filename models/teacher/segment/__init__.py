"""Video segmenters behind `models/teacher/interfaces.py`: SAM 2 of transformers, and of the `sam2` package."""
