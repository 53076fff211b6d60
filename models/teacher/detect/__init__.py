"""Boxes of nouns: Grounding DINO and its kin, OWLv2, Florence-2, and what is done with their boxes."""
