"""Matchers: how well each track fits each sentence, frame by frame."""
