"""Measures of a finished model: bits per byte of held-out text, and questions whose answers a program can check.

grading (is this answer right?), refusal (does it refuse?), likelihood (bits per byte, and what a compressor needs), prompts (how a model is asked), runner (ask
all, tally).
"""
