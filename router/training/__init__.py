"""Training: sampling, fine-tuning, calibration, export. Needs the `train` extra; serving never imports it."""
