# Shared, dependency-light building blocks: knows nothing of models or datasets.
