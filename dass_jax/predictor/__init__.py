"""The accuracy predictor and its encoders (DaSS, ICLR 2023), one encoder per module."""
