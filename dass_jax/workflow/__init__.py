"""The stages of an experiment, one per command; each reads and writes fixed places and resumes."""
