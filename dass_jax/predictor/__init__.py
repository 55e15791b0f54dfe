"""The accuracy predictor and its encoders (DaSS, section 3.3), one encoder per module."""
