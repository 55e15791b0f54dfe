"""Distilled students as files that run elsewhere."""
