"""Checking a data set on disk: which one it is (detect), reading all of it (reading, run), the page (findings)."""
