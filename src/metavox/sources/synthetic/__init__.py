"""Synthetic speech by espeak-ng: texts, voice settings, and synthesis into a corpus or a folder."""
