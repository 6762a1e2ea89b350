"""The one training loop: its clock, checkpoints, sampling and log, whatever it trains."""
