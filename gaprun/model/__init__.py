"""The model: open_clip towers, and the paper's methods (temperature.py, swap.py) with the loss they act on."""
