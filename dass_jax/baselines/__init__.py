"""Cheap scores of students that a learned predictor of accuracy after KD has to beat."""
